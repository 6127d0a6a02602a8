#!/usr/bin/env python3
"""What a newcomer does: ./dev run, orders of the stand-in Cartona flow into the stand-in Odoo, Ctrl-C, and once more.

Prints 'PASS name' or 'FAIL name: why' per test, for ./dev test, on what that has built (or the preset DRAGOMAN_RUN_PRESET).
Arguments: only tests whose name holds one of them.
"""
import collections
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from crash_rig import ROOT, Target, read_env, wait_until  # noqa: E402

PRESET = os.environ.get("DRAGOMAN_RUN_PRESET") or "asan"
NAME = "Run.ANewcomerSeesOrdersFlowAndGoesOnTheNextDay"


class Run:
    """`./dev run`, in a group of its own as a terminal would have it, for the length of a `with`."""

    def __init__(self, data):
        self.data = data
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("ODOO_", "DRAGOMAN_"))}

    def __enter__(self):
        self.log = open(self.data.parent / "run.log", "ab")
        self.process = subprocess.Popen(
            [str(ROOT / "dev"), "run", "--odoo", "stand-in", "--preset", PRESET, "--listen", "127.0.0.1:0"], cwd=ROOT,
            env={**self.environment, "DRAGOMAN_DATA_DIR": str(self.data)}, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.ctrl_c()
        self.log.close()

    def said(self):
        return (self.data.parent / "run.log").read_text(errors="replace")

    def ctrl_c(self):
        """And all that it started has ended: the stand-ins, which are in groups of their own, too."""
        ports = [(self.data / name).read_text().strip() for name in ("stand-in.port", "cartona.port")]
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(timeout=120)
        assert code in (0, 130), f"it ended with {code}: {self.said()[-1000:]}"
        for port in ports:
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", int(port))), f"what listens on {port} is left"

    def orders(self):
        assert self.process.poll() is None, f"it ended: {self.said()[-1500:]}"
        done = subprocess.run([str(ROOT / "build" / PRESET / "dragoman"), "market", "orders", "--limit", "1000", "--data-dir",
                               str(self.data), "--json"], env=self.environment, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)["orders"] if done.returncode == 0 else []

    def until(self, more_than):
        """So many orders are in Odoo, and acknowledged."""
        def look():
            done = [row for row in self.orders() if row["state"] == "imported" and row["acknowledged"]]
            return done if len(done) > more_than else None
        return wait_until(look, 240, lambda: self.said()[-2000:], every=0.5)

    def sold(self):
        odoo = Target(read_env(self.data / "stand-in.env"))
        found = odoo.call("sale.order", "search_read", [["x_marketplace_config", "=", "shop1"]], ["x_cartona_id"])
        return collections.Counter(order["x_cartona_id"] for order in found)


def newcomer(folder):
    run = Run(folder / "data")
    with run:
        first = {row["order"] for row in run.until(3)}
        held = wait_until(lambda: [row for row in run.orders() if row["state"] == "held"], 60, run.said)
        assert any("DEMO-NEW" in row["reason"] for row in held), held
        wait_until(lambda: "market holds" in run.said(), 60, run.said)
        run.ctrl_c()
    with run:
        later = {row["order"] for row in run.until(len(first) + 2)}
        assert first <= later, f"forgotten: {first - later}"
        sold = run.sold()
        assert set(sold.values()) == {1} and first <= set(sold), sold
        run.ctrl_c()
    return f"{len(first)} orders, then {len(later)}, each once"


def main():
    patterns = [p.lower() for p in sys.argv[1:]]
    if patterns and not any(p in NAME.lower() for p in patterns):
        return
    with tempfile.TemporaryDirectory(prefix="dragoman-run-") as folder:
        try:
            print(f"  {NAME}: {newcomer(pathlib.Path(folder))}", file=sys.stderr, flush=True)
            print(f"PASS {NAME}", flush=True)
        except Exception as error:  # noqa: BLE001 - any end of a test is told as its failure
            traceback.print_exc(limit=4)
            print(f"FAIL {NAME}: {' '.join(str(error).split())[:1200]}", flush=True)


main()

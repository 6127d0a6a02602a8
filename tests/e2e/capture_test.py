#!/usr/bin/env python3
"""Drives the hub's own program, as a user would, against a stand-in and the real servers that are up.

Prints 'PASS name', 'FAIL name: why' or 'SKIP name: why' per test, for ./dev test. The programs are build/asan/dragoman
and build/asan/sandbox/sandbox-odoo, or DRAGOMAN_BIN and DRAGOMAN_SANDBOX_ODOO. Real servers come in
DRAGOMAN_TEST_ODOO19_ENV and DRAGOMAN_TEST_ODOO14_ENV. Arguments: only tests whose name holds one of them.
DRAGOMAN_SEED replays the moments of the kills.
"""
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import urllib.request
import threading
import time
import traceback
import xmlrpc.client

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from crash_rig import is_wanted  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
HUB = os.environ.get("DRAGOMAN_BIN") or str(ROOT / "build" / "asan" / "dragoman")
STAND_IN = os.environ.get("DRAGOMAN_SANDBOX_ODOO") or str(ROOT / "build" / "asan" / "sandbox" / "sandbox-odoo")
SEED = int(os.environ.get("DRAGOMAN_SEED") or random.randrange(1_000_000))
FULL = bool(os.environ.get("DRAGOMAN_FULL"))


class Odoo:
    """Somebody else at work in the same database, by XML-RPC."""

    def __init__(self, env):
        self.env = env
        common = xmlrpc.client.ServerProxy(env["ODOO_URL"] + "/xmlrpc/2/common")
        self.uid = common.authenticate(env["ODOO_DB"], env["ODOO_USERNAME"], env["ODOO_PASSWORD"], {})
        self.tag = f"e2e-{os.getpid()}-{random.randrange(1 << 30)}"

    def call(self, model, method, *args, **kwargs):
        proxy = xmlrpc.client.ServerProxy(self.env["ODOO_URL"] + "/xmlrpc/2/object")  # one per call: threads
        return proxy.execute_kw(self.env["ODOO_DB"], self.uid, self.env["ODOO_PASSWORD"], model, method, list(args), kwargs)

    def create(self, name):
        return self.call("res.partner", "create", {"name": name, "ref": self.tag})

    def clean(self):
        ids = self.call("res.partner", "search", [["ref", "=", self.tag]], context={"active_test": False})
        for at in range(0, len(ids), 200):
            self.call("res.partner", "unlink", ids[at:at + 200])


class Hub:
    """The program on a data folder of its own."""

    def __init__(self, env, folder):
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("ODOO_", "DRAGOMAN_"))}
        self.connection = {k: env[k] for k in ("ODOO_URL", "ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD")}
        self.process = None

    def start(self):
        self.log = open(self.folder / "hub.log", "ab")
        self.process = subprocess.Popen([HUB, "run", "--data-dir", str(self.folder / "data"), "--listen", "127.0.0.1:0"],
                                        env={**self.environment, **self.connection}, stdout=self.log, stderr=self.log)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(timeout=120)
            assert code == 0, f"the hub ended with {code}: {self.tail()}"

    def tail(self):
        return (self.folder / "hub.log").read_text(errors="replace")[-1500:]

    def ask(self, *words, codes=(0,)):
        done = subprocess.run([HUB, *words, "--data-dir", str(self.folder / "data"), "--json"], env=self.environment,
                              capture_output=True, text=True, timeout=600)
        assert done.returncode in codes, f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-800:]} {self.tail()}"
        return json.loads(done.stdout)

    def until(self, what, good, seconds=240):
        """Asks until it is so: a wait with an end, for what another process does in its own time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = what()
                if good(answer):
                    return answer
            except AssertionError:
                answer = None
            assert time.monotonic() < deadline, f"not so after {seconds} s: {str(answer)[:600]} {self.tail()}"
            assert self.process is None or self.process.poll() is None, f"the hub died: {self.tail()}"
            time.sleep(0.2)

    def newest(self):
        return self.ask("change", "list", "--limit", "1")["last"]

    def models(self):
        return self.ask("sync", "status")["models"]

    def all_following(self):
        return self.until(self.models, lambda models: len(models) > 5 and all(m["phase"] in ("following", "unavailable") for m in models))


def certified(hub, *words):
    certificates = hub.ask("certify", "main", *words, codes=(0, 1, 65))["certificates"]
    wrong = [c for c in certificates if c["differences"]]
    assert not wrong, f"differences: {json.dumps(wrong)[:1500]}"
    assert all(c["there"] == c["here"] for c in certificates), "counts differ"
    return certificates


def pull_follow_certify(env, folder):
    """A full pull of all default models; records made, changed, archived and deleted from outside; 0 differences."""
    odoo, hub = Odoo(env), Hub(env, folder)
    try:
        changed, archived, gone = odoo.create("Changed"), odoo.create("Archived"), odoo.create("Gone")
        hub.start()
        hub.all_following()
        odoo.call("res.partner", "write", [changed], {"phone": "+999 555 0190"})
        odoo.call("res.partner", "write", [archived], {"active": False})
        odoo.call("res.partner", "unlink", [gone])
        made = odoo.create("Made")
        hub.until(lambda: hub.ask("record", "show", "main", "res.partner", str(made)), lambda r: "Made" in json.dumps(r))
        certificates = certified(hub, "--bodies", "all")
        kinds = {i: [v["kind"] for v in hub.ask("record", "history", "main", "res.partner", str(i))["versions"]]
                 for i in (changed, archived, gone, made)}
        assert kinds == {changed: ["change", "create"], archived: ["archive", "create"], gone: ["delete", "create"],
                         made: ["create"]}, kinds
        return f"{len(certificates)} models, {sum(c['there'] for c in certificates)} records"
    finally:
        hub.stop()
        odoo.clean()


def slow_stand_in(env, milliseconds):
    """A stand-in answers faster than anybody could kill: each read takes a while. No effect on a real server."""
    if env.get("ODOO_PG_URI"):
        return
    for method, body in (("DELETE", {}), ("POST", {"match": {"method": "search_read"}, "action": {"kind": "slow", "ms": milliseconds}}),
                         ("POST", {"match": {"method": "read"}, "action": {"kind": "slow", "ms": milliseconds}})):
        if method == "POST" and not milliseconds:
            continue
        request = urllib.request.Request(env["ODOO_URL"] + "/sandbox/faults", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"}, method=method)
        urllib.request.urlopen(request, timeout=30).read()


def killed_while_pulling(env, folder):
    """Ten kills at random moments of the pull; then everything is here, and no record has two versions for it."""
    odoo, hub = Odoo(env), Hub(env, folder)
    moments = random.Random(SEED)
    try:
        held = []
        if env.get("ODOO_PG_URI"):  # a demo database is pulled in a few seconds
            for _ in range(6):
                odoo.call("res.partner", "create", [{"name": f"Bulk {n}", "ref": odoo.tag} for n in range(500)])
        slow_stand_in(env, 50)
        for _ in range(10):
            before = held[-1] if held else 0
            hub.start()
            # Killed as soon as it is seen to have stored more: in the middle of the pull, until there is no more to pull.
            began = time.monotonic()
            hub.until(hub.newest, lambda newest: newest > before or time.monotonic() - began > 6)
            time.sleep(moments.uniform(0, 0.02))  # the moment is the test's subject
            hub.kill()
            held.append(hub.newest())
        slow_stand_in(env, 0)
        hub.start()
        hub.all_following()
        certificates = certified(hub, "--bodies", "all")
        repeated = [c for c in changes(hub) if c["version"] > 1]
        touched = {m["model"] for m in repeated}
        assert not touched - {"res.partner", "sale.order"}, f"versions without a change: {touched}"
        total = sum(c["there"] for c in certificates)
        during = sum(1 for n in held if 0 < n < total)
        assert during >= 2, f"only {during} of the kills fell into the pull: {held} of {total}"
        return f"10 kills, {during} of them during the pull, at {held} records held, then {sum(c['there'] for c in certificates)} records, 0 differences"
    finally:
        slow_stand_in(env, 0)
        hub.stop()
        odoo.clean()


def changes(hub):
    since, found = 0, []
    while True:
        page = hub.ask("change", "list", "--since", str(since), "--limit", "10000")
        if not page["changes"]:
            return found
        found += page["changes"]
        since = page["next"]


def server_is_busy(env):
    """Real servers on two cores write as fast as they can; how fast is not the hub's merit or fault."""
    return bool(env.get("ODOO_PG_URI"))


def certified_while_others_write(env, folder):
    """Certificates during 20 writes a second from outside: never a difference that is none."""
    odoo, hub = Odoo(env), Hub(env, folder)
    ids = [odoo.create(f"Busy {i}") for i in range(20)]
    ended, written, failed, lock = threading.Event(), [0], [], threading.Lock()
    began = time.monotonic()

    def write(number):
        chance = random.Random(SEED + number)
        while not ended.is_set():
            try:
                roll = chance.random()
                if roll < 0.2:
                    made = odoo.create("Busy new")
                    with lock:
                        ids.append(made)
                elif roll < 0.3 and len(ids) > 10:
                    with lock:
                        gone = ids.pop(chance.randrange(len(ids)))
                    odoo.call("res.partner", "unlink", [gone])
                else:
                    odoo.call("res.partner", "write", [chance.choice(ids)], {"phone": str(written[0]), "active": chance.random() > 0.2})
                with lock:
                    written[0] += 1
            except xmlrpc.client.Fault:
                pass  # two writers wanted one record, or it is gone: the later one fails, as in real life
            except Exception as error:  # noqa: BLE001 - told at the end
                failed.append(repr(error)[:300])
            pause = began + written[0] / 20 - time.monotonic()
            if pause > 0:
                ended.wait(pause)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    try:
        hub.start()
        hub.all_following()
        began = time.monotonic()
        for writer in writers:
            writer.start()
        rounds = 0
        while rounds < (10 if FULL else 4):
            certified(hub, "res.partner", "--bodies", "all" if rounds % 2 else "sample")
            rounds += 1
        rate = written[0] / (time.monotonic() - began)
        assert not failed, failed[0]
        if not server_is_busy(env):
            assert rate > 10, f"the writers managed {rate:.1f} writes a second only: nothing was shown"
        ended.set()
        for writer in writers:
            writer.join()
        certified(hub, "res.partner", "--bodies", "all")
        return f"{rounds} certificates during {written[0]} writes ({rate:.0f} a second): 0 differences"
    finally:
        ended.set()
        for writer in writers:
            if writer.is_alive():
                writer.join()
        hub.stop()
        odoo.clean()


TESTS = {"PullFollowCertify": pull_follow_certify, "KilledTenTimesWhilePulling": killed_while_pulling,
         "CertifiedWhileOthersWrite": certified_while_others_write}


def read_env(path):
    return dict(line.split("=", 1) for line in pathlib.Path(path).read_text().splitlines() if "=" in line)


def run(server, env, wanted):
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="dragoman-e2e-") as folder:
            try:
                told = TESTS[name](env, pathlib.Path(folder))
                print(f"  {name}/{server} (seed {SEED}): {told}", file=sys.stderr, flush=True)
                print(f"PASS E2e.{name}/{server}", flush=True)
            except Exception as error:  # noqa: BLE001 - any end of a test is told as its failure
                traceback.print_exc(limit=4)
                print(f"FAIL E2e.{name}/{server}: seed {SEED}: {' '.join(str(error).split())[:1200]}", flush=True)


def main():
    patterns = sys.argv[1:]
    for server, series in (("StandIn19", "19"), ("StandIn14", "14"), ("Odoo19", "19"), ("Odoo14", "14")):
        wanted = [n for n in TESTS if is_wanted(f"E2e.{n}/{server}", patterns)]
        if not wanted:
            continue
        if server.startswith("Odoo"):
            path = os.environ.get(f"DRAGOMAN_TEST_ODOO{series}_ENV")
            if path:
                run(server, read_env(path), wanted)
            else:
                for name in wanted:
                    print(f"SKIP E2e.{name}/{server}: Odoo {series} is not up", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="dragoman-e2e-") as folder:
            ready = pathlib.Path(folder) / "env"
            process = subprocess.Popen([STAND_IN, "--series", series, "--ready-file", str(ready), "--fill", "res.partner=5000"],
                                       stdout=subprocess.DEVNULL)
            try:
                for _ in range(600):
                    if ready.exists() or process.poll() is not None:
                        break
                    time.sleep(0.1)
                run(server, read_env(ready), wanted)
            finally:
                process.terminate()
                process.wait(timeout=60)


main()

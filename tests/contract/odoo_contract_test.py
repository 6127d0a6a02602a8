#!/usr/bin/env python3
"""Runs the contract on the stand-in of each series and on the real servers that are up, all at once.

Prints 'PASS name', 'FAIL name: why' or 'SKIP name: why' per case, for ./dev test. Real servers come in
DRAGOMAN_TEST_ODOO19_ENV and DRAGOMAN_TEST_ODOO14_ENV; the stand-in is build/asan/sandbox/sandbox-odoo, or
DRAGOMAN_SANDBOX_ODOO. Arguments: only cases whose name holds one of them.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = ROOT / "contract" / "odoo" / "run.py"
STAND_IN = pathlib.Path(os.environ.get("DRAGOMAN_SANDBOX_ODOO") or ROOT / "build" / "asan" / "sandbox" / "sandbox-odoo")


def names_of(env_file, patterns):
    listed = subprocess.run([sys.executable, str(RUN), "--env", str(env_file), "--list"], capture_output=True, text=True, check=True)
    names = listed.stdout.split()
    return [name for name in names if not patterns or any(p.lower() in name.lower() for p in patterns)]


def run(env_file, patterns, junit):
    """The lines for one server."""
    names = names_of(env_file, patterns)
    if not names:
        return []
    command = [sys.executable, str(RUN), "--env", str(env_file), "--junit", str(junit)]
    if patterns:
        for name in names:
            command += ["--case", name.split(".", 1)[1].split("/")[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    try:
        cases = {f"Contract.{case.get('name')}": case for case in ElementTree.parse(junit).getroot().iter("testcase")}
    except (OSError, ElementTree.ParseError):
        return [f"FAIL {name}: the run ended early: {done.stderr.strip()[-300:]}" for name in names]
    lines = []
    for name in names:
        if name not in cases:
            lines.append(f"FAIL {name}: it did not run")
            continue
        failure = cases[name].find("failure")
        why = "" if failure is None else " ".join(failure.get("message", "").split())
        lines.append(f"PASS {name}" if failure is None else f"FAIL {name}: {why}")
    return lines


def stand_in(series, patterns, folder):
    ready = folder / f"standin{series}.env"
    # Away from the words that a password or a key is mistaken for: the contract tells them apart.
    process = subprocess.Popen([str(STAND_IN), "--series", series, "--ready-file", str(ready)], stdout=subprocess.DEVNULL,
                               stdin=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if ready.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        if not ready.exists():
            return [f"FAIL Contract.stand-in-starts/StandIn{series}: it did not start"]
        return run(ready, patterns, folder / f"standin{series}.xml")
    finally:
        process.terminate()
        code = process.wait(timeout=60)
        if code not in (0, -15):
            print(f"FAIL Contract.stand-in-ends-cleanly/StandIn{series}: exit code {code}", flush=True)


def real(series, patterns, folder):
    path = os.environ.get(f"DRAGOMAN_TEST_ODOO{series}_ENV")
    if path:
        return run(path, patterns, folder / f"odoo{series}.xml")
    fake = folder / f"none{series}.env"
    fake.write_text(f"ODOO_URL=http://127.0.0.1:1\nODOO_DB=x\nODOO_USERNAME=x\nODOO_PASSWORD=x\nODOO_VERSION={series}\n")
    return [f"SKIP {name}: Odoo {series} is not up" for name in names_of(fake, patterns)]


def main():
    patterns = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary, concurrent.futures.ThreadPoolExecutor(4) as pool:
        folder = pathlib.Path(temporary)
        jobs = [pool.submit(kind, series, patterns, folder) for kind in (stand_in, real) for series in ("19", "14")]
        failed = False
        for job in jobs:
            for line in job.result():
                failed = failed or line.startswith("FAIL")
                print(line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

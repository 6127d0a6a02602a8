#!/usr/bin/env python3
"""What tools/run_tests.py started ends with it when somebody stops it, and its servers are taken away."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
PATIENCE = 120  # seconds for what takes a moment, so that a busy machine fails nothing

# Each stands for a tool: says that it was called, and, where it is told to, never comes back, with a child of its own.
SCRIPT = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$LOG"
case "$(basename "$0") $1" in
  "odoo.sh up") sleep 10000 & echo $! >>"$PIDS"; wait ;;
  "pg.sh start") mkdir -p "$2/data"; echo "DRAGOMAN_TEST_PG=x"; echo "DRAGOMAN_TEST_PG_DIR=$2" ;;
  "pg.sh stop") rm -rf "$2" ;;
  "cmake --preset") sleep 10000 & echo $! >>"$PIDS"; wait ;;
esac
"""


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def stopped_by(number):
    """What is wrong after a whole run was stopped while its build and its servers were under way; empty: nothing."""
    with tempfile.TemporaryDirectory(prefix="dragoman-run-tests.") as folder:
        root = pathlib.Path(folder)
        (root / "tools").mkdir()
        (root / "bin").mkdir()
        shutil.copy(TOOLS / "run_tests.py", root / "tools")
        for name in ("tools/odoo.sh", "tools/pg.sh", "tools/setup.sh", "bin/cmake"):
            (root / name).write_text(SCRIPT)
            (root / name).chmod(0o755)
        log, pids = root / "log", root / "pids"
        log.touch()
        pids.touch()
        environment = {**os.environ, "LOG": str(log), "PIDS": str(pids), "PATH": f"{root}/bin:{os.environ['PATH']}",
                       "DRAGOMAN_CACHE": str(root / "cache")}
        run = subprocess.Popen([sys.executable, "tools/run_tests.py"], cwd=root, env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            # Two Odoos and the build.
            if not until(lambda: len(pids.read_text().split()) == 3):
                return f"it did not get under way: {log.read_text()}"
            started = [int(pid) for pid in pids.read_text().split()]
            run.send_signal(number)
            try:
                _, errors = run.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                return "it did not end"
            if run.returncode != 128 + number:
                return f"exit code {run.returncode}: {errors[-500:]}"
            left = [pid for pid in started if runs(pid)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            calls = log.read_text().splitlines()
            missing = [call for call in ("odoo.sh drop 19", "odoo.sh drop 14", "pg.sh stop") if not any(c.startswith(call) for c in calls)]
            return f"{len(left)} processes are left" if left else f"not called: {', '.join(missing)}" if missing else ""
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()


CASES = {"EndsWhatItStartedWhenTerminated": signal.SIGTERM, "EndsWhatItStartedWhenInterrupted": signal.SIGINT}
for name, number in CASES.items():
    if len(sys.argv) == 1 or any(pattern.lower() in f"RunTests.{name}".lower() for pattern in sys.argv[1:]):
        wrong = stopped_by(number)
        print(f"FAIL RunTests.{name}: {wrong}" if wrong else f"PASS RunTests.{name}", flush=True)

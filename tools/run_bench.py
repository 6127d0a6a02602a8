#!/usr/bin/env python3
"""The figures of the goals, on this machine: ./dev bench [GROUP…] [--quick] [--pairs N] [--seed N] [--only P1,P2…].

Groups: pull (P1 to P8, a real Odoo 19), store (P9), queue (Q1 to Q5), api (S1), intake (S2),
orders (O1 to O4 and MKT-70, a real Odoo 19 and the stand-ins). The first lines tell the machine and the versions; then every
figure is one line of JSON: name (beginning with its id), value, unit, goal where there is one, which direction is better, and
with pairs the interval that holds the median with at least 95 % probability. Lines with # are for people.
--quick is for trying the benches out: 3 pairs, small sizes, no figure to quote.
"""
import argparse
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
import run_tests  # noqa: E402
from bench import common, orders, pull, queue  # noqa: E402


def version_of(command, pattern=r"\d+(\.\d+)+"):
    try:
        found = re.search(pattern, subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        return found.group(0) if found else "unknown"
    except OSError:
        return "not installed"


def print_machine(options):
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), "unknown processor")
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)) / 1024 / 1024
    pg_bin = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    common.say(f"machine: {os.cpu_count()} cores of {model}, {memory:.0f} GB, Linux {platform.release()}; load {os.getloadavg()[0]:.2f} at the start")
    if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        common.say("NOTE: something else is at work on this machine; absolute times and tails suffer, ratios of pairs less")
    common.say(f"versions: {version_of(['c++', '--version'], r'.*').strip()} -O2; SQLite {sqlite_version()}; "
               f"PostgreSQL {version_of([str(pg_bin[-1]), '--version']) if pg_bin else 'not installed'}; Python {platform.python_version()}")
    common.say(f"commit: {version_of(['git', '-C', str(ROOT), 'describe', '--always', '--dirty'], r'.+')}; SQLite: WAL, synchronous=FULL; seed {options.seed}; "
               f"{options.pairs} interleaved pairs, median and 95 % interval (order statistics)" + ("; QUICK: small sizes, not to be quoted" if options.quick else ""))


def sqlite_version():
    return version_of(["dpkg-query", "-W", "-f", "${Version}", "libsqlite3-0"])


def run_program(name, options, environment):
    """A benchmark that prints its own lines."""
    pairs = ["--pairs", str(options.pairs)]
    size = ["--rows", "2000"] if options.quick and name == "store_bench" else []
    if subprocess.run([str(common.program(name)), *pairs, *size], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
        raise RuntimeError(f"{name} failed (above)")


def store(options):
    servers = run_tests.Servers()
    try:
        servers.start((), postgres=True)
        run_program("store_bench", options, dict(os.environ, DRAGOMAN_REPO=str(ROOT), DRAGOMAN_SEED=str(options.seed), **servers.wait()))
    finally:
        servers.stop()


def api(options):
    run_program("api_bench", options, dict(os.environ, DRAGOMAN_REPO=str(ROOT), DRAGOMAN_SEED=str(options.seed)))


def intake(options):
    run_program("intake_bench", options, dict(os.environ, DRAGOMAN_REPO=str(ROOT), DRAGOMAN_SEED=str(options.seed)))


GROUPS = {"pull": pull.run, "store": store, "api": api, "intake": intake, "queue": queue.run, "orders": orders.run}


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"one of {', '.join(GROUPS)}; all of them if none is named")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="ids of figures of the groups pull, queue and orders: P1,Q4,O1")
    given = parser.parse_args()
    unknown = [name for name in given.groups if name not in GROUPS]
    if unknown:
        parser.error(f"there is no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    options = common.Options(given.pairs or (3 if given.quick else 9), given.quick, given.seed, tuple(filter(None, given.only.split(","))))
    print_machine(options)
    run_tests.RESULTS.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in given.groups or GROUPS:
        began = time.monotonic()
        common.say(f"--- {name}")
        try:
            GROUPS[name](options)
        except Exception as error:  # the other groups are still worth having
            failed.append(name)
            common.warn(f"{name} failed: {error}")
            common.missing(f"group {name}", str(error))
        common.say(f"{name} took {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs the benchmarks of the bench build: ./dev bench [NAME...]. Each prints its figures beside their goals.

A program bench/<name>_bench.cpp is run with the real Odoo of this machine and a PostgreSQL in its environment, one after the
other, with nothing else of ours running. Names choose programs by a part of their name; what follows -- goes to the programs.
"""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import run_tests

ROOT = run_tests.ROOT


def main():
    arguments = sys.argv[1:]
    passed_on = []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, passed_on = arguments[:cut], arguments[cut + 1:]
    found = [path for path in run_tests.programs("bench", "_bench") if not arguments or any(name in path.name for name in arguments)]
    if not found:
        print(f"no benchmark matches {' '.join(arguments)}" if arguments else "there are no benchmarks in bench/", file=sys.stderr)
        return 1
    run_tests.RESULTS.mkdir(parents=True, exist_ok=True)
    servers = run_tests.Servers()
    servers.name = "bench"
    environment = dict(os.environ, DRAGOMAN_REPO=str(ROOT))
    failed = []
    try:
        servers.start(("19",), postgres=True)
        environment.update(servers.wait())
        for program in found:
            print(f"== {program.name}", flush=True)
            if subprocess.run([str(program), *passed_on], cwd=ROOT, env=environment).returncode:
                failed.append(program.name)
    finally:
        servers.stop()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

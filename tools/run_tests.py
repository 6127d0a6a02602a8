#!/usr/bin/env python3
"""Builds and runs the tests: ./dev test [NAME...] [--full] [--seed N], ./dev fuzz [TARGET] [--seconds N].

Without a NAME: the sanitized build (ASan, UBSan) of everything, the ThreadSanitizer build of what shares memory, the fuzz
targets for a short while each, the layout checks and docs/requirements.md; real Odoo servers come up while it compiles.
With a NAME: the tests of the sanitized build whose name holds it, and only the servers that these need.

Results by name go to build/test-results/summary.json, for tools/check_requirements.py and whoever wants to know.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "test-results"
CACHE = pathlib.Path(os.environ.get("DRAGOMAN_CACHE") or pathlib.Path.home() / ".cache" / "dragoman")
CORES = os.cpu_count() or 2
CI = os.environ.get("CI") == "true"
REAL = re.compile(r"Odoo(19|14)")
REAL_SERVERS = ("Odoo19", "Odoo14")
POSTGRES = re.compile(r"[Pp]ostgres")
# ThreadSanitizer is for what shares memory between threads; the rest would only be slow.
TSAN_MODULES = ("jobs", "store", "http", "odoo")
TEST_MINUTES_MAX = 40

started = time.monotonic()
print_lock = threading.Lock()


def say(text):
    with print_lock:
        seconds = int(time.monotonic() - started)
        print(f"[{seconds // 60:3d}:{seconds % 60:02d}] {text}", flush=True)


# --- what was started -----------------------------------------------------------------------------------------------------


class Stopped(BaseException):
    """Somebody asked for an end, by SIGINT or SIGTERM: thrown in the main thread, once."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


class Children:
    """Every process that runs here, each in a group of its own, so that all can be ended with what they started."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = {}
        self.ending = False  # nothing new begins, but what cleans up
        self.busy = False    # the main thread is between starting one and noting it
        self.asked = None    # the signal that came meanwhile
        self.end = None      # the thread that ends all

    def start(self, command, clean_up=False, **options):
        main = threading.current_thread() is threading.main_thread()
        self.busy = self.busy or main
        try:
            with self.lock:
                if self.ending and not clean_up:
                    raise RuntimeError("stopped")
                process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True, **options)
                self.running[process.pid] = process
        finally:
            if main:
                self.busy = False
        if main and self.asked:
            raise Stopped(self.asked)
        return process

    def ended(self, process):
        with self.lock:
            self.running.pop(process.pid, None)

    def on_signal(self, number, frame):
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_IGN)
        # At once and in a thread of its own: the main thread may have to wait for what runs before it gets anywhere.
        self.end = threading.Thread(target=self.end_all)
        self.end.start()
        if self.busy:
            self.asked = number
        else:
            raise Stopped(number)

    def end_all(self):
        """Asks every group to end, and after ten seconds does not ask any more."""
        with self.lock:
            self.ending = True
            left = list(self.running)
        deadline = time.monotonic() + 10
        for number in (signal.SIGTERM, signal.SIGKILL):
            for group in left:
                try:
                    os.killpg(group, number)
                except ProcessLookupError:
                    pass
            while left and time.monotonic() < deadline:
                left = [group for group in left if alive(group)]
                time.sleep(0.05)


def alive(group):
    """Whether the group has a process that is no zombie."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            return True
    return False


children = Children()


def run(command, timeout=None, clean_up=False, **options):
    """As subprocess.run, with a group of its own that is ended when it takes too long."""
    if options.pop("capture", False):
        options.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = children.start(command, clean_up, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    finally:
        if process.returncode is not None:
            children.ended(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run_quiet(command, log, **options):
    """Runs a command with its output in a file; returns its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        return run(command, stdout=out, stderr=subprocess.STDOUT, **options).returncode


def tail(path, lines=40):
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)


class Results:
    """What ran, by name; safe from any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.tests = []

    def add(self, name, kind, outcome, seconds=0.0, detail=""):
        with self.lock:
            self.tests.append({"name": name, "kind": kind, "outcome": outcome, "seconds": round(seconds, 3), "detail": detail})

    def count(self, outcome):
        return sum(1 for test in self.tests if test["outcome"] == outcome)


# --- building -------------------------------------------------------------------------------------------------------------


def build(preset, targets=(), beside=False):
    """Configures if needed and compiles; returns an error text, empty if all went well."""
    log = RESULTS / f"build-{preset}.log"
    log.unlink(missing_ok=True)
    if not (ROOT / "build" / preset / "build.ninja").exists():
        if run_quiet(["cmake", "--preset", preset, "-Wno-dev"], log) != 0:
            return f"cmake --preset {preset} failed:\n{tail(log)}"
    command = ["nice", "-n", "10"] if beside else []  # tests that run meanwhile go first
    command += ["cmake", "--build", f"build/{preset}", "-j", str(CORES)]
    if targets:
        command += ["--target", *targets]
    begin = time.monotonic()
    if run_quiet(command, log) != 0:
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if re.search(r"\berror\b|FAILED:|undefined", line)]
        return f"building {preset} failed (all of it: {log.relative_to(ROOT)}):\n" + "\n".join(errors[:20] or lines[-40:])
    say(f"built {preset} in {time.monotonic() - begin:.0f} s")
    return ""


def targets_of(preset):
    output = run(["ninja", "-C", f"build/{preset}", "-t", "targets", "all"], capture=True).stdout
    return {line.split(":")[0] for line in output.splitlines()}


def programs(preset, ending):
    return sorted(path for path in (ROOT / "build" / preset).rglob(f"*{ending}")
                  if path.is_file() and os.access(path, os.X_OK) and "CMakeFiles" not in path.parts)


# --- servers --------------------------------------------------------------------------------------------------------------


class Servers:
    """The PostgreSQL and the real Odoos of one test run, brought up beside the build."""

    def __init__(self):
        # Two checkouts on one machine share the built Odoo, and each has an instance of its own.
        self.name = "test-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
        self.environment = {}
        self.problems = []
        self.threads = []
        self.lock = threading.Lock()  # two lanes wait
        self.postgres_dir = None
        self.tried = []

    def start(self, odoos, postgres):
        if postgres:
            self.start_postgres()
        for version in odoos:
            self.threads.append(threading.Thread(target=self.start_odoo, args=(version,)))
            self.threads[-1].start()

    def start_postgres(self):
        # Named before it is there, so that one that is half there can be taken away.
        self.postgres_dir = tempfile.mkdtemp(prefix="dragoman-pg.")
        done = run(["tools/pg.sh", "start", self.postgres_dir], capture=True)
        values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        if done.returncode or "DRAGOMAN_TEST_PG" not in values:
            self.problems.append(f"PostgreSQL did not start: {done.stderr.strip()}")
            return
        self.environment["DRAGOMAN_TEST_PG"] = values["DRAGOMAN_TEST_PG"]

    def start_odoo(self, version):
        log = RESULTS / f"odoo-{version}.log"
        log.unlink(missing_ok=True)
        begin = time.monotonic()
        self.tried.append(version)
        code = run_quiet(["tools/odoo.sh", "up", version, "--name", self.name, "--fresh"], log)
        env_file = CACHE / "odoo" / version / "run" / self.name / "env"
        if code or not env_file.exists():
            self.problems.append(f"Odoo {version} did not come up:\n{tail(log, 15)}")
            return
        self.environment[f"DRAGOMAN_TEST_ODOO{version}_ENV"] = str(env_file)
        versions = CACHE / "odoo" / version / "root" / ".versions"
        say(f"Odoo {version} is up after {time.monotonic() - begin:.0f} s ({versions.read_text().strip()})")

    def wait(self):
        """Returns what a test needs to find them, when everything is up or has failed; says what failed, once."""
        with self.lock:
            for thread in self.threads:
                thread.join()
            self.threads = []
            for problem in self.problems:
                say(problem)
            self.problems = []
            return self.environment

    def stop(self):
        self.wait()
        for version in self.tried:
            run_quiet(["tools/odoo.sh", "drop", version, "--name", self.name], RESULTS / f"odoo-{version}.log", clean_up=True)
        if self.postgres_dir:
            run_quiet(["tools/pg.sh", "stop", self.postgres_dir], RESULTS / "postgres.log", clean_up=True)
            shutil.rmtree(self.postgres_dir, ignore_errors=True)  # of one that never came to be


# --- running --------------------------------------------------------------------------------------------------------------


def sanitizer_environment():
    environment = dict(os.environ)
    environment.setdefault("ASAN_OPTIONS", "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1")
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    environment.setdefault("TSAN_OPTIONS", "halt_on_error=0:second_deadlock_stack=1")
    environment["DRAGOMAN_REPO"] = str(ROOT)
    return environment


def list_tests(program, environment):
    """The names of a GoogleTest program's tests, as Suite.Name."""
    done = run([str(program), "--gtest_list_tests"], capture=True, env=environment, timeout=120)
    names, suite = [], ""
    for line in done.stdout.splitlines():
        text = line.split("  #")[0].rstrip()
        if text.endswith(".") and not text.startswith(" "):
            suite = text
        elif text.startswith("  ") and suite:
            names.append(suite + text.strip())
    if done.returncode or not names:
        raise RuntimeError(f"{program.name} does not list its tests: {done.stderr.strip()[-500:]}")
    return [name for name in names if "DISABLED_" not in name]


def run_gtest(program, kind, server, names, wanted_all, environment, results):
    """Runs the named tests of one program and records each; a test that never reported is a failure."""
    xml = RESULTS / f"{kind}-{program.name}-{server}.xml"
    log = RESULTS / f"{kind}-{program.name}-{server}.log"
    xml.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    command = [str(program), f"--gtest_output=xml:{xml}", "--gtest_color=no"]
    if not wanted_all:
        flags = RESULTS / f"{kind}-{program.name}-{server}.flags"  # a command has no room for that many names
        flags.write_text("--gtest_filter=" + ":".join(names) + "\n")
        command.append(f"--gtest_flagfile={flags}")
    begin = time.monotonic()
    timed_out = False
    with open(log, "wb") as out:
        process = children.start(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            code = process.wait(timeout=TEST_MINUTES_MAX * 60)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        children.ended(process)
    seen = {}
    try:
        for case in ElementTree.parse(xml).getroot().iter("testcase"):
            name = f"{case.get('classname')}.{case.get('name')}"
            failed = [f.get("message", "") for f in case.findall("failure")]
            skipped = [s.get("message", "") for s in case.findall("skipped")]
            ran = case.get("status", "run") == "run" and case.get("result", "completed") != "skipped"
            if case.get("status") == "notrun":
                continue
            seen[name] = "failed" if failed else ("passed" if ran else "skipped")
            results.add(name, kind, seen[name], float(case.get("time", 0) or 0), "\n".join(failed or skipped))
    except (OSError, ElementTree.ParseError):
        # It died before the end: its own output says how far it came.
        for name, word in re.findall(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] (\S+)", log.read_text(errors="replace"), re.M):
            outcome = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}[name]
            seen[word.rstrip(",")] = outcome
            results.add(word.rstrip(","), kind, outcome)
    missing = [name for name in names if name not in seen]
    for name in missing:
        results.add(name, kind, "failed", 0, f"{program.name} ended before it was done")
    failed = sum(1 for outcome in seen.values() if outcome == "failed")
    if code != 0 and not failed and not missing:
        # Every test passed and the program still failed: a leak or a race found at its end.
        results.add(f"{program.name}.ends cleanly", kind, "failed", 0, f"exit code {code}")
        failed += 1
    word = "ok" if not failed and not missing else "FAILED"
    say(f"{kind} {program.name} {server}: {len(seen) - failed} of {len(names)} in {time.monotonic() - begin:.0f} s: {word}"
        + (" (killed: too slow)" if timed_out else ""))
    if word == "FAILED":
        with print_lock:
            print(f"--- the end of {log.relative_to(ROOT)}\n{tail(log, 80)}\n---", flush=True)


class Lanes:
    """What runs beside what: each real Odoo has a lane of its own, as what talks to it shares it, and needs its share of the
    machine alone; `none` is for everything that needs neither.

    The lanes of the servers begin when these are up. Threads: all of it in the main thread.
    """

    def __init__(self, servers, environment):
        self.servers, self.environment, self.futures = servers, environment, []
        self.pools = {name: concurrent.futures.ThreadPoolExecutor(1) for name in REAL_SERVERS}
        self.pools["none"] = concurrent.futures.ThreadPoolExecutor(CORES)

    def add(self, server, work):
        """`work` is called with the environment of a test."""
        def run_it():
            there = self.servers.wait() if server in REAL_SERVERS else self.servers.environment
            work({**self.environment, **there})
        self.futures.append(self.pools[server].submit(run_it))

    def add_programs(self, kind, selected, results):
        """The chosen tests of GoogleTest programs, each in the lane of its server."""
        for program, (names, wanted_all) in selected.items():
            shares = {}
            for name in names:
                shares.setdefault(server_of(name), []).append(name)
            for server, share in shares.items():
                whole = wanted_all and len(shares) == 1
                self.add(server, lambda there, program=program, share=share, server=server, whole=whole: run_gtest(
                    program, kind, server, share, whole, there, results))

    def join(self):
        for future in self.futures:
            future.result()
        for pool in self.pools.values():
            pool.shutdown()


def server_of(name):
    found = REAL.search(name)
    return found[0] if found else "none"


def run_python_test(script, server, patterns, environment, results):
    """A script tests/**/*_test.py, which prints 'PASS name' or 'FAIL name: why' per test: those of one server."""
    log = RESULTS / f"python-{script.stem}-{server}.log"
    log.unlink(missing_ok=True)
    begin = time.monotonic()
    code = run_quiet([sys.executable, str(script), *patterns], log, env={**environment, "DRAGOMAN_TEST_SERVER": server},
                     timeout=TEST_MINUTES_MAX * 60)
    lines = re.findall(r"^(PASS|FAIL|SKIP) ([^\s:]+):? ?(.*)$", log.read_text(errors="replace"), re.M)
    outcomes = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
    for word, name, why in lines:
        results.add(name, "python", outcomes[word], 0, why)
    if code != 0 and not any(word == "FAIL" for word, _, _ in lines):
        results.add(f"{script.stem}.ends cleanly", "python", "failed", 0, f"exit code {code}")
    if any(word == "FAIL" for word, _, _ in lines) or code:
        say(f"python {script.name} {server}: FAILED\n{tail(log)}")
    elif lines:
        say(f"python {script.name} {server}: {len(lines)} ok in {time.monotonic() - begin:.0f} s")


def python_shares(script):
    """The servers that tests of a script may need: all of them go by is_wanted of tests/e2e/crash_rig.py, or need none."""
    text = script.read_text()
    return [*REAL_SERVERS, "none"] if "is_wanted" in text or "market_rig" in text else ["none"]


def contract_names(patterns):
    """The cases of contract/odoo by server, as they report themselves: {"Odoo19": {case id: name}, …}."""
    names = {server: {} for server in ("Odoo19", "Odoo14", "StandIn19", "StandIn14")}
    for path in sorted(ROOT.glob("contract/odoo/cases/*.json")):
        for case in json.loads(path.read_text())["cases"]:
            for server, cases in names.items():
                name = f"Contract.{case['id']}/{server}"
                wanted = not patterns or any(p.lower() in name.lower() for p in patterns)
                if server.startswith("StandIn") and case.get("real"):
                    continue  # It is about what the stand-in does not have, and is not run there.
                if wanted and int(server[-2:]) in case.get("series", [14, 19]):
                    cases[case["id"]] = name
    return names


def run_contract(server, cases, environment, results):
    """One suite of cases on real 19, real 14, and the stand-in as each: what a stand-in does, a real server did first."""
    log = RESULTS / f"contract-{server}.log"
    log.unlink(missing_ok=True)
    standin = None
    env_file = environment.get(f"DRAGOMAN_TEST_{server.upper()}_ENV")
    if server.startswith("StandIn"):
        standin, env_file = start_standin(server[-2:], environment)
    if not env_file:
        for name in cases.values():
            results.add(name, "contract", "skipped", 0, f"{server} is not up")
        return
    command = [sys.executable, "contract/odoo/run.py", "--env", env_file]
    for case in cases:
        command += ["--case", case]
    begin = time.monotonic()
    try:
        run_quiet(command, log, env=environment, timeout=TEST_MINUTES_MAX * 60)
    except subprocess.TimeoutExpired:
        say(f"contract {server}: killed: too slow")
    finally:
        if standin:
            standin.terminate()
            standin.wait()
            children.ended(standin)
    said = dict((name, (word, why)) for word, name, why in
                re.findall(r"^(ok|FAIL) +([^\s:]+):? ?(.*)$", log.read_text(errors="replace"), re.M))
    failed = 0
    for name in cases.values():
        word, why = said.get(name, ("FAIL", "did not run"))
        results.add(name, "contract", "passed" if word == "ok" else "failed", 0, why)
        if word != "ok":
            failed += 1
            say(f"contract {name}: {why[:500]}")
    say(f"contract {server}: {len(cases) - failed} of {len(cases)} in {time.monotonic() - begin:.0f} s")


def start_standin(series, environment):
    ready = RESULTS / f"stand-in-{series}.env"
    ready.unlink(missing_ok=True)
    with open(RESULTS / f"stand-in-{series}.log", "wb") as out:
        process = children.start([str(ROOT / "build/asan/sandbox/sandbox-odoo"), "--series", series, "--ready-file", str(ready)],
                                 stdout=out, stderr=subprocess.STDOUT, env=environment)
    while not ready.exists() and process.poll() is None:
        time.sleep(0.05)
    return process, str(ready) if ready.exists() else None


def run_fuzzers(seconds, patterns, environment, results):
    """libFuzzer on every target of the fuzz build, from the committed corpus, findings kept in build/fuzz-findings."""
    if not any(ROOT.glob("fuzz/*_fuzz.cpp")):
        return
    problem = build("fuzz", ["fuzzers"], beside=True)
    if problem:
        results.add("Fuzz.builds", "fuzz", "failed", 0, problem)
        say(problem)
        return
    found = [path for path in programs("fuzz", "_fuzz") if not patterns or any(p in path.name for p in patterns)]

    def one(program):
        name = program.name[: -len("_fuzz")]
        grown = ROOT / "build" / "fuzz-corpus" / name
        findings = ROOT / "build" / "fuzz-findings" / name
        for folder in (grown, findings):
            folder.mkdir(parents=True, exist_ok=True)
        corpus = ROOT / "fuzz" / "corpus" / name
        log = RESULTS / f"fuzz-{name}.log"
        log.unlink(missing_ok=True)
        command = [str(program), f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=3000", "-print_final_stats=1",
                   f"-artifact_prefix={findings}/", str(grown)]
        if os.environ.get("DRAGOMAN_SEED"):
            command.insert(1, f"-seed={int(os.environ['DRAGOMAN_SEED']) & 0x7FFFFFFF}")
        if corpus.is_dir():
            command.append(str(corpus))
        code = run_quiet(command, log, env=environment, timeout=seconds + 300)
        runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", log.read_text(errors="replace"))
        results.add(f"Fuzz.{name}", "fuzz", "failed" if code else "passed", seconds, tail(log, 30) if code else "")
        say(f"fuzz {name}: {runs[-1] if runs else '?'} runs in {seconds} s: {'FAILED' if code else 'ok'}")
        if code:
            with print_lock:
                print(tail(log, 40), flush=True)

    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        list(pool.map(one, found))


def run_check(script, kind, results):
    """A checking script of ours: prints 'PASS name' and 'FAIL name: why'."""
    done = run([sys.executable, f"tools/{script}"], capture=True)
    lines = re.findall(r"^(PASS|FAIL) ([^\s:]+):? ?(.*)$", done.stdout, re.M)
    for word, name, why in lines:
        results.add(name, kind, "passed" if word == "PASS" else "failed", 0, why)
    if done.returncode or any(word == "FAIL" for word, _, _ in lines):
        if not any(word == "FAIL" for word, _, _ in lines):
            results.add(f"{script}.ends cleanly", kind, "failed", 0, done.stderr[-500:])
        say(f"{kind}: FAILED\n{done.stdout}{done.stderr}")
    else:
        say(f"{kind}: {len(lines)} ok")


def select(found, patterns, environment, results, kind):
    """For each program the tests to run, and whether these are all it has."""
    selected = {}
    for program in found:
        try:
            names = list_tests(program, environment)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            results.add(f"{program.name}.lists its tests", kind, "failed", 0, str(error))
            say(str(error))
            selected[program] = ([], True)
            continue
        chosen = [name for name in names if not patterns or any(p.lower() in name.lower() for p in patterns)]
        selected[program] = (chosen, not patterns)
    return selected


def main():
    parser = argparse.ArgumentParser(prog="./dev test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--full", action="store_true", help="the long ones too (DRAGOMAN_FULL=1 for the tests, fuzzers 10 minutes each)")
    parser.add_argument("--seed", help="replays random tests (DRAGOMAN_SEED)")
    parser.add_argument("--update-golden", action="store_true", help="rewrites golden files from what came out")
    parser.add_argument("--only-fuzz", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, help="for each fuzz target")
    options = parser.parse_args()

    os.chdir(ROOT)
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    if options.seed:
        os.environ["DRAGOMAN_SEED"] = options.seed
    if options.full:
        os.environ["DRAGOMAN_FULL"] = "1"
    if options.update_golden:
        os.environ["DRAGOMAN_UPDATE_GOLDEN"] = "1"

    results = Results()
    environment = sanitizer_environment()
    servers = Servers()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, children.on_signal)
    try:
        if options.only_fuzz:
            run_fuzzers(options.seconds or 60, options.names, environment, results)
        else:
            run_all(options, results, environment, servers)
        servers.stop()
    except Stopped as stopped:
        say(f"{signal.Signals(stopped.number).name}: ends what was started")
        children.end.join()
        servers.stop()
        sys.stdout.flush()
        os._exit(128 + stopped.number)  # the threads that are left have nothing to do any more
    except BaseException:
        servers.stop()
        raise
    return report(options, results)


def run_all(options, results, environment, servers):
    whole = not options.names
    if whole:
        servers.start(("19", "14"), postgres=True)
        if run(["tools/setup.sh", "fuzz"]).returncode:
            results.add("Fuzz.is installed", "fuzz", "failed", 0, "clang and its fuzzer runtime are missing")
    # Of the benchmarks only that they compile.
    problem = build("asan", ("all", "bench_objects") if whole else ())
    if problem:
        results.add("Build.asan", "asan", "failed", 0, problem)
        say(problem)
        return
    found = programs("asan", "_test")
    selected = select(found, options.names, environment, results, "asan")
    contract = contract_names(options.names)
    if not whole:
        names = [name for chosen, _ in selected.values() for name in chosen] + [n for cases in contract.values() for n in cases.values()]
        # A script does not list its tests: one that holds the name and speaks of a real server gets it.
        scripts_text = "".join(text for text in (path.read_text() for path in ROOT.glob("tests/**/*_test.py"))
                               if any(p.lower().split("/")[0] in text.lower() for p in options.names))
        needed = [version for version in ("19", "14")
                  if any(f"Odoo{version}" in name for name in names) or f"ODOO{version}_ENV" in scripts_text]
        servers.start(needed, postgres=any(POSTGRES.search(name) for name in names))
    lanes = Lanes(servers, environment)
    lanes.add_programs("asan", selected, results)
    for server, cases in contract.items():
        if cases:
            lanes.add(server_of(server), lambda there, server=server, cases=cases: run_contract(server, cases, there, results))
    for script in sorted(ROOT.glob("tests/**/*_test.py")):
        for server in python_shares(script):
            lanes.add(server, lambda there, script=script, server=server: run_python_test(script, server, options.names, there, results))
    if whole:
        run_tsan(environment, lanes, results)
        run_fuzzers(options.seconds or (600 if options.full else 15), [], environment, results)
    lanes.join()
    if whole:
        run_check("tidy.py", "layout", results)
        save(results)
        run_check("check_requirements.py", "requirements", results)


def run_tsan(environment, lanes, results):
    """Builds while the tests before it run; its own go to the ends of their lanes."""
    if not (ROOT / "build" / "tsan" / "build.ninja").exists():
        run_quiet(["cmake", "--preset", "tsan", "-Wno-dev"], RESULTS / "build-tsan.log")
    targets = [f"{module}_test" for module in TSAN_MODULES if f"{module}_test" in targets_of("tsan")]
    problem = build("tsan", targets, beside=True) if targets else ""
    if problem:
        results.add("Build.tsan", "tsan", "failed", 0, problem)
        say(problem)
        return
    found = [path for path in programs("tsan", "_test") if path.name in targets]
    lanes.add_programs("tsan", select(found, [], environment, results, "tsan"), results)


def save(results):
    (RESULTS / "summary.json").write_text(json.dumps({"full": "DRAGOMAN_FULL" in os.environ, "tests": results.tests}, indent=1))


def report(options, results):
    skipped = [test for test in results.tests if test["outcome"] == "skipped"]
    if CI or options.full:
        # Where everything is expected to be there, a test that found its server missing has failed.
        for test in skipped:
            if REAL.search(test["name"]) or POSTGRES.search(test["name"]):
                test["outcome"] = "failed"
                test["detail"] = "its server was expected: " + test["detail"]
    save(results)
    kinds = sorted({test["kind"] for test in results.tests})
    print()
    for kind in kinds:
        mine = [test for test in results.tests if test["kind"] == kind]
        passed = [test for test in mine if test["outcome"] == "passed"]
        line = f"{kind:13} {len(passed):5} passed {sum(t['outcome'] == 'failed' for t in mine):4} failed"
        if kind in ("asan", "contract", "python"):
            real = {version: sum(1 for test in passed if f"Odoo{version}" in test["name"]) for version in ("19", "14")}
            line += f"   of them on real Odoo 19: {real['19']}, on real 14: {real['14']}"
        if kind == "asan":
            line += f", on PostgreSQL: {sum(1 for test in passed if POSTGRES.search(test['name']))}"
        print(line)
    for outcome in ("skipped", "failed"):
        for test in results.tests:
            if test["outcome"] == outcome:
                first = (test["detail"].strip().splitlines() or [""])[0][:200]
                print(f"{outcome}: {test['kind']} {test['name']}" + (f": {first}" if first else ""))
    failed, passed = results.count("failed"), results.count("passed")
    if not results.tests:
        print(f"no test matches {' '.join(options.names)}" if options.names else "no test ran")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

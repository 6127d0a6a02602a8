"""What the groups of ./dev bench share: figures and their intervals, programs, servers. Nothing here measures by itself."""
import json
import math
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("DRAGOMAN_CACHE") or pathlib.Path.home() / ".cache" / "dragoman")
BUILD = ROOT / "build" / "bench"


class Options:
    def __init__(self, pairs=9, quick=False, seed=1, only=()):
        self.pairs, self.quick, self.seed, self.only = pairs, quick, seed, only

    def wants(self, figure):
        return not self.only or figure in self.only


def say(text):
    """A line for the reader; figures go out by figure()."""
    print(f"# {text}", flush=True)


def figure(name, value, unit, goal=None, better="lower", **more):
    """One JSON line. Without a goal it is shown for scale."""
    line = {"name": name, "value": rounded(value), "unit": unit}
    if goal is not None:
        line["goal"] = goal
    line["better"] = better
    line.update({key: rounded(item) for key, item in more.items() if item is not None})
    print(json.dumps(line, ensure_ascii=False), flush=True)


def missing(name, why):
    """A figure that could not be measured, said instead of left out."""
    print(json.dumps({"name": name, "value": None, "not_measured": why}, ensure_ascii=False), flush=True)


def rounded(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values, share):
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def interval(values):
    """The order statistics that hold the median with at least 95 % probability, whatever the distribution is."""
    ordered, n = sorted(values), len(values)
    tail, term, drop = 0.0, 0.5**n, 0
    while drop < n // 2 and 2 * (tail + term) <= 0.05:
        tail += term
        drop += 1
        term = term * (n - drop + 1) / drop
    return ordered[max(drop - 1, 0)], ordered[n - 1 - max(drop - 1, 0)]


def of_median(name, values, unit, goal=None, better="lower", **more):
    low, high = interval(values)
    if len(values) < 6:
        more["note"] = (more.get("note", "") + f" {len(values)} values: low and high are the least and the greatest, no 95 % interval").strip()
    figure(name, median(values), unit, goal, better, low=low, high=high, pairs=len(values), **more)


class Work:
    """A folder for the data of one group, and the processes started in it; both end with the `with`."""

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dragoman-bench-", dir=os.environ.get("TMPDIR")))
        self.processes = []
        self.count = 0
        return self

    def __exit__(self, *_):
        for process in list(self.processes):
            self.stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh(self):
        self.count += 1
        path = self.folder / str(self.count)
        path.mkdir()
        return path

    def drop(self, path):
        shutil.rmtree(path, ignore_errors=True)

    def start(self, command, **options):
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT, **options)
        self.processes.append(process)
        return process

    def stop(self, process, timeout=20):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
        if process in self.processes:
            self.processes.remove(process)


def run_json(command, environment=None, timeout=1800):
    """Runs a program to its end; returns the JSON of its last line."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{pathlib.Path(str(command[0])).name} failed: {done.stderr.strip()[-800:] or done.stdout[-800:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def program(name):
    found = [path for path in BUILD.rglob(name) if path.is_file() and os.access(path, os.X_OK) and "CMakeFiles" not in path.parts]
    if not found:
        raise RuntimeError(f"{name} is not built: ./dev build bench")
    return found[0]


class Odoo:
    """A real Odoo of the benchmark's own, brought up by ./dev odoo."""

    def __init__(self, name, workers=2, fresh=False):
        self.name = name
        command = [ROOT / "tools/odoo.sh", "up", "19", "--name", name, "--workers", str(workers)] + (["--fresh"] if fresh else [])
        done = subprocess.run([str(part) for part in command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"Odoo 19 did not come up: {done.stderr.strip()[-800:]}")
        values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        self.environment = {key: values[key] for key in ("ODOO_URL", "ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD", "ODOO_API_KEY")}
        self.url, self.db, self.key, self.pg, self.log = (values[key] for key in ("ODOO_URL", "ODOO_DB", "ODOO_API_KEY", "ODOO_PG_URI", "ODOO_LOG"))
        self.workers = workers
        versions = CACHE / "odoo" / "19" / "root" / ".versions"
        self.versions = versions.read_text().strip() if versions.exists() else "unknown"

    def down(self):
        subprocess.run([str(ROOT / "tools/odoo.sh"), "down", "19", "--name", self.name], cwd=ROOT, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def call(self, model, method, timeout=300, **arguments):
        """One JSON-2 call."""
        request = urllib.request.Request(f"{self.url}/json/2/{model}/{method}", json.dumps(arguments).encode(), {
            "Authorization": f"bearer {self.key}", "Content-Type": "application/json", "X-Odoo-Database": self.db})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{model}.{method}: HTTP {error.code} {error.read()[:300]!r}") from None

    def sql(self, text):
        return psql(self.pg, ["-c", text])

    def hub_environment(self):
        return dict(os.environ, **self.environment)

    def settings(self, **more):
        return {"url": self.url, "database": self.db, "login": "admin", **more}


def psql(uri, arguments):
    done = subprocess.run(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", *arguments, uri], cwd=ROOT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"psql: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def wait_for(condition, seconds, what, every=0.05):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(every)


def shuffled(items, seed):
    items = list(items)
    random.Random(seed).shuffle(items)
    return items


def warn(text):
    print(text, file=sys.stderr, flush=True)

"""Group queue of ./dev bench: Q1 to Q3 by the program's own `bench queue` on both stores, Q4 and Q5 with real hubs.

Q4 and Q5 run the hub as a user does, against the stand-in Odoo, and look at the times that the jobs themselves carry: from
enqueued to begun, by the database's clock.
"""
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import urllib.request

from bench import common

sys.path.insert(0, str(common.ROOT / "tests" / "e2e"))

LEASE = 10  # the default
WINDOW = 5  # seconds
CLIENTS = 4
SLOW_MS = 1000  # what a call takes at the slowed target
BATCH = 50  # records in a call: kBatch of pipeline/deliver.h


def own_bench(options, store=""):
    size = ["--jobs", "3000", "--seconds", "4"] if options.quick else []
    with common.Work() as work:
        command = [common.program("dragoman"), "bench", "queue", "--json", "--pairs", options.pairs, *size, "--data-dir", work.fresh() / "data"]
        if store:
            command += ["--store", store]
        done = subprocess.run([str(part) for part in command], cwd=common.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"dragoman bench queue ended with {done.returncode}")
        for line in done.stdout.splitlines():
            told = json.loads(line)
            print(line if "name" in told else f"# {told.get('setting')}: {told.get('value')}", flush=True)


class Site:
    """Two hubs on a PostgreSQL, a stand-in Odoo, and clients at a steady rate; the pickup times out of the jobs' own rows."""

    def __init__(self, stack, work, pg_uri, pg_dir, seed):
        import crash_rig as rig
        self.rig, self.pg_dir = rig, pg_dir
        self.folder = work.fresh()
        self.schema = f"bench_{random.SystemRandom().randrange(1 << 40):010x}"
        self.uri = pg_uri
        self.sql(f"CREATE SCHEMA {self.schema}")
        env = stack.enter_context(rig.StandIn(self.folder))
        self.target = rig.Target(env)
        odoo = {k: env[k] for k in ("ODOO_URL", "ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD")}
        login, port = pg_uri.split("@")[0], int(pg_uri.rsplit(":", 1)[1].split("/")[0])
        self.wires, self.hubs = [], []
        key = {"DRAGOMAN_SECRET_KEY": f"{random.Random(seed).getrandbits(256):064x}"}
        for number in range(2):
            wire = rig.TcpProxy(port)
            stack.callback(wire.close)
            self.wires.append(wire)
            url = f"{login}@127.0.0.1:{wire.port}/postgres?options=-csearch_path%3D{self.schema}"
            hub = rig.Hub(self.folder, odoo if number == 0 else None, url, f"node{number}", key)
            stack.callback(hub.end)
            self.hubs.append(hub)
            hub.start()
            if not hub.ready():
                raise RuntimeError(hub.tail())
        rig.wait_until(lambda: (self.hubs[0].data / "hub.json").exists(), 60, "the hub did not start")
        self.hubs[0].provision(env)
        self.seed, self.loads = seed, 0

    def sql(self, text):
        done = subprocess.run(["psql", self.uri, "-XAtq", "-F", "\t", "-c", text], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-300:])
        return [line.split("\t") for line in done.stdout.splitlines()]

    def load(self, clients, per_second):
        self.loads += 1  # each has keys of its own
        return self.rig.Load(self.folder, self.seed, [hub.port for hub in self.hubs], self.hubs[0].token(),
                             f"{self.target.tag}{self.loads}-", clients=clients, per_second=per_second, patience=3)

    def pickups(self, since):
        """[(second of the enqueueing, milliseconds until it began)] of the jobs enqueued since; those that still wait count until now."""
        now = time.time()
        rows = self.sql(f"SELECT enqueued_us, started_us FROM {self.schema}.job WHERE enqueued_us >= {int(since * 1e6)} AND hold <> 1 ORDER BY 1")
        return [(int(enqueued) / 1e6, ((int(started) / 1e6 if started else now) - int(enqueued) / 1e6) * 1000) for enqueued, started in rows]


def back_within(site, after, usual, most):
    """Seconds from `after`, in steps of WINDOW, until the p95 of the jobs of every later window stays within twice the usual
    one; None: not within `most`. A shorter window would hold too few jobs for a p95."""
    time.sleep(most)
    windows = {}
    for at, waited in site.pickups(after):
        windows.setdefault(int((at - after) / WINDOW), []).append(waited)
    late = [number for number, waits in windows.items() if common.percentile(waits, 0.95) > 2 * usual]
    good_from = (max(late, default=-1) + 1) * WINDOW
    return good_from if good_from < most - 5 else None


def q4_and_q5(options, pg):
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(common.Work())
        site = Site(stack, work, pg["DRAGOMAN_TEST_PG"], pg["DRAGOMAN_TEST_PG_DIR"], options.seed)
        stack.callback(lambda: site.sql(f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {site.schema} CASCADE"))
        stack.callback(lambda: [hub.end() for hub in site.hubs])

        if options.wants("Q5"):
            q5(options, site, stack)
        if options.wants("Q4"):
            q4(site, stack)


def kill_and_restart(site):
    site.hubs[1].kill()
    site.hubs[1].start()


def kill(site):
    site.hubs[1].kill()


def q5(options, site, stack):
    settle, most = (5, 30) if options.quick else (15, 45)
    # Capacity first: as fast as the clients can, for a while.
    load = site.load(8, 0)
    began = time.time()
    time.sleep(settle)
    load.finish()
    site.rig.wait_until(lambda: not site.sql(f"SELECT 1 FROM {site.schema}.job WHERE state < 4 LIMIT 1"), 300, "the backlog is not done")
    capacity = int(site.sql(f"SELECT count(*) FROM {site.schema}.job")[0][0]) / (time.time() - began)
    rate = max(1.0, capacity / 2 / CLIENTS / 1.8)  # 1.8 records in a request on average
    load = site.load(CLIENTS, rate)
    stack.callback(load.abandon)
    begin = time.time()
    time.sleep(settle)
    waits = [waited for _, waited in site.pickups(begin + 2)]
    usual = max(common.percentile(waits, 0.95), 10.0)
    common.figure("Q5 capacity of two nodes against the stand-in", capacity, "records/s", better="higher")
    common.figure("Q5 pickup p95 at half of it, undisturbed", common.percentile(waits, 0.95), "ms")

    def cell(name, act):
        after = time.time()
        act()
        found = back_within(site, after, usual, most)
        label = f"Q5 until pickup p95 is back within 2x: {name}"
        if found is None:
            common.missing(label, f"not within {most - 5} s")
        else:
            common.figure(label, float(found), "s", 30)

    cell("one of two nodes killed and started again", lambda: kill_and_restart(site))
    cell("one of two nodes killed, gone for good", lambda: kill(site))
    site.hubs[1].start()
    site.hubs[1].ready()

    def stop_and_wake():
        site.hubs[0].process.send_signal(signal.SIGSTOP)
        time.sleep(2 * LEASE)
        site.hubs[0].process.send_signal(signal.SIGCONT)

    cell("one node stopped for twice its lease", stop_and_wake)

    def partition():
        site.wires[0].closed = True
        site.wires[0].cut()
        time.sleep(10)
        site.wires[0].closed = False

    cell("one node cut off from the database for 10 s", partition)

    def restart_server():
        site.rig.Pair.run("kill", site.pg_dir)
        site.rig.Pair.run("again", site.pg_dir)

    cell("PostgreSQL killed and started again", restart_server)
    common.missing("Q5 until pickup p95 is back within 2x: clock jump", "this machine's clock can't be moved for one program; the simulator does it")
    load.finish()


def q4(site, stack):
    # The load is half of what the slowed target can take, as above: it answers one batch after the other. With more,
    # what is measured is how far the target is behind; that is told too, without a goal.
    def under(per_second):
        if not site.hubs[1].lives():
            site.hubs[1].start()
        site.hubs[1].ready()
        site.rig.wait_until(lambda: not site.sql(f"SELECT 1 FROM {site.schema}.job WHERE state < 4 LIMIT 1"), 300, "the backlog is not done")
        return site.load(CLIENTS, per_second / CLIENTS / 1.8)

    half = 1000 / SLOW_MS * BATCH / 2
    for name, goal, act, seconds, per_second in (
            ("Q4 orphans begin again, same node restarted", 1.0, kill_and_restart, 10, half),
            ("Q4 orphans begin again, by another node", 15.0, kill, 25, half),
            ("Q4 orphans begin again, by another node, the target given more than it can take", None, kill, 60, 3 * half)):
        load = under(per_second)
        stack.callback(load.abandon)
        orphans(site, name, goal, act, seconds)
        load.finish()


def orphans(site, name, goal, act, seconds):
    """From the death until the last job that had been running then began again. The stand-in is slow meanwhile, so that
    there are some."""
    def slow(milliseconds):
        for method, body in (("DELETE", {}), ("POST", {"match": {"model": "ir.actions.server"}, "action": {"kind": "slow", "ms": milliseconds}})):
            if method == "DELETE" or milliseconds:
                request = urllib.request.Request(site.target.env["ODOO_URL"] + "/sandbox/faults", json.dumps(body).encode(),
                                                 {"Content-Type": "application/json"}, method=method)
                urllib.request.urlopen(request, timeout=60).read()

    slow(SLOW_MS)
    time.sleep(4)
    after = time.time()
    act(site)
    # A job that is tried once more later has a later start: what counts is the first one that is seen of each.
    begun, waiting = {}, []
    while time.time() < after + seconds:
        time.sleep(0.2)
        rows = site.sql(f"SELECT j.id, coalesce(j.started_us, 0), min(h.at_us) FROM {site.schema}.job j JOIN {site.schema}.job_history h ON h.job_id = j.id "
                        f"WHERE h.what = 'interrupted' AND h.at_us >= {int(after * 1e6)} GROUP BY 1, 2")
        for job, started, at in ((row[0], int(row[1]), int(row[2])) for row in rows):
            if started > at:
                begun.setdefault(job, started)
        waiting = [row[0] for row in rows if row[0] not in begun]
    slow(0)
    if waiting:
        common.missing(name, f"{len(waiting)} of {len(waiting) + len(begun)} had not begun after {seconds} s")
        return
    if not begun:
        common.missing(name, "nothing ran when it was killed")
        return
    common.figure(name, max(begun.values()) / 1e6 - after, "s", goal, jobs=len(begun))


def run(options):
    os.environ["DRAGOMAN_BIN"] = str(common.program("dragoman"))
    os.environ["DRAGOMAN_SANDBOX_ODOO"] = str(common.program("sandbox-odoo"))
    floors = not options.only or any(name.startswith(("Q1", "Q2", "Q3")) for name in options.only)
    if floors:
        own_bench(options)
    done = subprocess.run([str(common.ROOT / "tools" / "pg.sh"), "start"], cwd=common.ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    pg = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if "DRAGOMAN_TEST_PG" not in pg:
        raise RuntimeError(f"PostgreSQL did not start: {done.stderr[-300:]}")
    try:
        if floors:
            own_bench(options, pg["DRAGOMAN_TEST_PG"])
        if options.wants("Q4") or options.wants("Q5"):
            q4_and_q5(options, pg)
    finally:
        subprocess.run([str(common.ROOT / "tools" / "pg.sh"), "stop", pg["DRAGOMAN_TEST_PG_DIR"]], cwd=common.ROOT, stdin=subprocess.DEVNULL, check=False)

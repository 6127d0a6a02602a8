"""Figures of the pull, P1 to P8: a real Odoo 19 with partners of its own, and the stand-in for sizes that would take it hours."""
import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time

from bench.common import (CACHE, ROOT, Odoo, Work, figure, median, missing, of_median, percentile, program, psql, run_json, say, wait_for)

FIELDS = ("active city comment commercial_partner_id company_id complete_name country_id create_date email function industry_id "
          "is_company lang name parent_id phone ref state_id street street2 type user_id vat write_date zip").split()
PAGE = 1000
FILL_VERSION = 2
ODOO_AWAIT = "odoo-await@3.4.1"


def run(options):
    partners = 5000 if options.quick else 50000
    failed = []

    def part(what, figures, measure):
        """One part; if it fails, the others are still measured."""
        if not any(options.wants(name) for name in figures):
            return
        try:
            with Work() as work:
                measure(work)
        except Exception as error:  # said as a figure that is missing
            missing(what, str(error))
            failed.append(what)

    real = ("P1", "P1b", "P2", "P3", "P4", "P6")
    if any(options.wants(name) for name in (*real, "P8")):
        odoo = Odoo("bench-quick" if options.quick else "bench")
        try:
            fill(odoo, partners)
            say(f"Odoo: {odoo.versions}; 2 HTTP workers, no cron; {partners:,} invented partners beside its demo data, {len(FIELDS)} fields")
            part("P1 to P4, P6", real, lambda work: Pulls(odoo, work, options).measure())
            part("P8", ("P8",), lambda work: others_latency(odoo, work, options))
        finally:
            odoo.down()
    part("P5", ("P5",), lambda work: memory(work, options))
    if options.wants("P7"):
        odoo = Odoo("bench-live")
        try:
            part("P7", ("P7",), lambda work: latency(odoo, work, options))
        finally:
            odoo.down()
    if failed:
        raise RuntimeError(f"not measured: {', '.join(failed)}")


def fill(odoo, partners):
    """Makes the partners and the orders once; the database is kept, and knows by a marker what is in it."""
    marker = f"{FILL_VERSION}: {partners} partners"
    if odoo.sql("SELECT value FROM ir_config_parameter WHERE key = 'dragoman.bench'") == marker:
        return
    if odoo.sql("SELECT count(*) FROM ir_config_parameter WHERE key = 'dragoman.bench'") != "0" or int(odoo.sql("SELECT count(*) FROM res_partner")) > 1000:
        odoo.__init__(odoo.name, odoo.workers, fresh=True)
    began = time.monotonic()
    psql(odoo.pg, ["-1", "-v", f"partners={partners}", "-f", str(ROOT / "bench/fill.sql")])
    odoo.sql("VACUUM ANALYZE res_partner")
    product = odoo.call("product.product", "search", domain=[["sale_ok", "=", True]], limit=1)[0]
    customers = odoo.call("res.partner", "search", domain=[["is_company", "=", True], ["ref", "like", "C"]], limit=100, order="id")
    odoo.call("sale.order", "create", vals_list=[
        {"partner_id": customer, "client_order_ref": f"P-{n}", "order_line": [[0, 0, {"product_id": product, "product_uom_qty": n % 5 + i + 1}] for i in range(3)]}
        for n, customer in enumerate(customers)])
    odoo.sql(f"INSERT INTO ir_config_parameter (key, value, create_date, write_date, create_uid, write_uid) VALUES ('dragoman.bench', '{marker}', now(), now(), 1, 1)")
    say(f"filled the database in {time.monotonic() - began:.0f} s (kept for the next time)")


class Pulls:
    """P1 to P4 and P6: rounds of everything that is compared, in turn, each round in the other direction."""

    def __init__(self, odoo, work, options):
        self.odoo, self.work, self.options = odoo, work, options
        self.last_id = int(odoo.sql("SELECT max(id) FROM res_partner"))
        self.records = int(odoo.sql("SELECT count(*) FROM res_partner"))
        self.results = {}

    def floor(self, connections, names):
        return run_json([program("pull_floor"), "--url", self.odoo.url, "--database", self.odoo.db, "--model", "res.partner", "--fields",
                         ",".join(FIELDS), "--last-id", self.last_id, "--page", PAGE, "--connections", connections, "--names", int(names)],
                        self.odoo.hub_environment())

    def hub(self, names, share, again=0, keep=None):
        settings = self.odoo.settings(workers=self.odoo.workers, default_models=False, models=["res.partner"],
                                      per_model={"res.partner": {"fields": FIELDS, "names": names}})
        if share:
            settings["bulk_share"] = share
        folder = keep or self.work.fresh()
        result = run_json([program("pull_bench"), "pull", folder, json.dumps(settings), "res.partner", again], self.odoo.hub_environment())
        if result["created"] != self.records:
            raise RuntimeError(f"the hub stored {result['created']} of {self.records} partners: {result}")
        if not keep:
            self.work.drop(folder)
        return result

    def peer(self, library):
        folder = self.work.fresh()
        if library == "odoo-await":
            node = node_with(ODOO_AWAIT)
            command = [node, "--no-warnings", ROOT / "bench/peers/pull.mjs", CACHE / "peers", folder / "peer.db", ",".join(FIELDS)]
        else:
            command = [python_with(library), ROOT / "bench/peers/pull.py", library, folder / "peer.db", ",".join(FIELDS)]
        result = run_json(command, self.odoo.hub_environment())
        if result["records"] != self.records:
            raise RuntimeError(f"{library} read {result['records']} of {self.records} partners")
        self.work.drop(folder)
        return result

    def measure(self):
        options, all_workers, fewer = self.options, self.odoo.workers, max(1, self.odoo.workers - 1)
        runs = {
            "floor": lambda: self.floor(all_workers, True),
            "names": lambda: self.hub(True, "all", again=1),
            "ids": lambda: self.hub(False, "all", again=1),
        }
        if options.wants("P1b"):
            runs["floor, fewer"] = lambda: self.floor(fewer, True)
            runs["names, fewer"] = lambda: self.hub(True, None)
        odoorpc = python_with("odoorpc") if options.wants("P3") else None
        if odoorpc:
            runs["odoorpc"] = lambda: self.peer("odoorpc")
        say(f"pull: floor and hub both ask for stretches of {PAGE} ids over JSON-2; the floor keeps nothing, the hub keeps all in SQLite, synchronous=FULL")
        say("pull: the hub's wall time runs from the start of the run (log-in, fields_get and counting included) until the last page is durable; "
            "the sweep that ends a run is P6's")
        self.floor(all_workers, True)  # warm: Odoo's caches and PostgreSQL's
        order = list(runs)
        for pair in range(options.pairs):
            for name in order if pair % 2 == 0 else reversed(order):
                self.results.setdefault(name, []).append(runs[name]())
            say(f"round {pair + 1} of {options.pairs}: " + ", ".join(f"{name} {self.results[name][-1]['wall']:.2f} s" for name in order))
        self.print_walls(odoorpc)
        self.print_cost()

    def walls(self, name, part="wall"):
        return [result[part] for result in self.results[name]]

    def ratio(self, name, above, below, goal, part="wall", **more):
        over, under = [r for r in self.walls(above, part)], self.walls(below)
        of_median(name, [a / b for a, b in zip(over, under)], "ratio", goal, seconds=median(over), floor_seconds=median(under), **more)

    def print_walls(self, odoorpc):
        options, workers = self.options, self.odoo.workers
        self.ratio("P1 wall / floor, names mode, all workers", "names", "floor", 1.05, setting=f"--bulk-share all, {workers} connections")
        self.ratio("P1 the whole run with the sweep that ends it / floor", "names", "floor", None, part="run_wall")
        if options.wants("P1b"):
            self.ratio("P1b wall / floor, names mode, default share of the workers", "names, fewer", "floor, fewer", 1.05,
                       setting=f"default, {max(1, workers - 1)} connection on both sides")
        self.ratio("P2 wall / the names floor, ids mode", "ids", "floor", 0.65, setting=f"--bulk-share all, {workers} connections")
        if odoorpc:
            self.ratio("P3 wall / odoorpc, names mode", "names", "odoorpc", 0.45, setting="--bulk-share all")
            self.ratio("P3 wall / odoorpc, ids mode", "ids", "odoorpc", 0.30, setting="--bulk-share all")
            self.ratio("P1 peer: odoorpc / floor", "odoorpc", "floor", None)
        else:
            missing("P3 wall / odoorpc", "no python3 here has the module odoorpc (Debian: python3-odoorpc)")
        for library in ("xmlrpc.client", "odoo-await"):
            if not options.wants("P1"):
                continue
            try:
                self.results[library] = [self.peer("xmlrpc" if library == "xmlrpc.client" else library)]
                figure(f"P1 peer: {library} / floor", median(self.walls(library)) / median(self.walls("floor")), "ratio",
                       seconds=median(self.walls(library)), runs=1, note="for scale: one run, after the rounds")
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                missing(f"P1 peer: {library} / floor", str(error))

    def print_cost(self):
        options = self.options
        share = 1000 / self.records
        if options.wants("P4"):
            for name, what in (("ids", "ids mode (the default)"), ("names", "names mode")):
                of_median(f"P4 hub CPU per 1,000 new records, {what}", [r["cpu"] * share * 1000 for r in self.results[name]], "ms", 9,
                          whole_run_ms=median([r["run_cpu"] * share * 1000 for r in self.results[name]]))
            for name in ("odoorpc", "xmlrpc.client", "odoo-await"):
                if name in self.results:
                    figure(f"P4 peer: {name}, CPU per 1,000 records", median([r["cpu"] * share * 1000 for r in self.results[name]]), "ms")
            folder, floors = self.work.fresh(), []
            self.hub(False, "all", keep=folder)
            for _ in range(options.pairs):
                target = self.work.fresh()
                floors.append(run_json([program("pull_bench"), "store", target, folder])["cpu"] * share * 1000)
                self.work.drop(target)
            self.work.drop(folder)
            of_median("P4 floor: the same rows by nothing but SQLite, CPU per 1,000 records", floors, "ms")
        if options.wants("P6"):
            for name, what in (("names", "names mode"), ("ids", "ids mode")):
                again = [(r["again"][0], r) for r in self.results[name]]
                if any(one["created"] or one["changed"] or one["deleted"] for one, _ in again):
                    missing(f"P6 {what}", f"the second run found changes: {again[0][0]}")
                    continue
                of_median(f"P6 unchanged re-sync / full pull, {what}", [one["wall"] / r["wall"] for one, r in again], "ratio", 0.10,
                          seconds=median([one["wall"] for one, _ in again]), calls=again[0][0]["calls"],
                          note="(id, write_date) of every record compared, deletions included; fields_get and the poll too")
        for name in ("odoorpc", "xmlrpc.client", "odoo-await"):
            if name in self.results and options.wants("P5"):
                figure(f"P5 peer: {name}, peak memory, {self.records:,} records", median([r["peak_mb"] for r in self.results[name]]), "MB")
        if options.wants("P5"):
            figure(f"P5 peak memory, {self.records:,} records of the real Odoo, names mode", max(r["peak_mb"] for r in self.results["names"]), "MB", 40)


def node_with(package):
    """Node for a package of npm, which is put into the cache the first time."""
    node = subprocess.run([str(ROOT / "tools/node.sh")], capture_output=True, text=True, check=True).stdout.strip()
    name = package.split("@")[0]
    if not (CACHE / "peers/node_modules" / name / "package.json").exists():
        subprocess.run(["npm", "install", "--prefix", str(CACHE / "peers"), "--no-audit", "--no-fund", "--no-save", package], cwd=CACHE,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
    return node


def python_with(library):
    """A python3 that can import it: the one we run on, or Debian's."""
    if library == "xmlrpc":
        return "python3"
    for candidate in ("/usr/bin/python3", shutil.which("python3") or ""):
        if candidate and subprocess.run([candidate, "-c", f"import {library}"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


# --- P5 ----------------------------------------------------------------------------------------------------------------------


def memory(work, options):
    sizes = (5000, 50000) if options.quick else (50000, 500000)
    fields = ["color" if field == "industry_id" else field for field in FIELDS]  # the stand-in has no industries
    peaks = []
    for size in sizes:
        stand_in = StandIn(work, ["--fill", f"res.partner={size}", "--seed", str(options.seed)])
        folder = work.fresh()
        settings = {"url": stand_in.values["ODOO_URL"], "database": stand_in.values["ODOO_DB"], "login": "admin", "workers": 2,
                    "default_models": False, "bulk_share": "all", "models": ["res.partner"], "per_model": {"res.partner": {"fields": fields, "names": False}}}
        result = run_json([program("pull_bench"), "pull", folder, json.dumps(settings), "res.partner"],
                          dict(os.environ, ODOO_API_KEY=stand_in.values["ODOO_API_KEY"]))
        work.drop(folder)
        stand_in.stop()
        peaks.append(result["peak_mb"])
        figure(f"P5 peak memory, {size:,} records of the stand-in", result["peak_mb"], "MB", 40, records=result["created"],
               records_per_second=result["created"] / result["wall"], cpu_ms_per_1000=result["cpu"] * 1e6 / max(result["created"], 1))
    figure(f"P5 growth of peak memory from {sizes[0]:,} to {sizes[1]:,} records", peaks[1] / peaks[0], "ratio", 1.1)


class StandIn:
    def __init__(self, work, arguments):
        self.work = work
        folder = work.fresh()
        ready = folder / "ready"
        self.process = work.start([program("sandbox-odoo"), "--port", "0", "--workers", "2", "--ready-file", ready, *arguments],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: ready.exists() or self.process.poll() is not None, 180, "the stand-in Odoo")
        if not ready.exists():
            raise RuntimeError("the stand-in Odoo ended at its start")
        self.values = dict(line.split("=", 1) for line in ready.read_text().splitlines() if "=" in line)

    def stop(self):
        self.work.stop(self.process)


# --- P7 ----------------------------------------------------------------------------------------------------------------------


class Follower:
    """The hub following all default models in a process of its own; tells when a marked change is durable."""

    def __init__(self, odoo, work, token):
        self.odoo, self.work = odoo, work
        self.seen, self.poll_ms, self.following = {}, [], None
        self.folder = work.fresh()
        self.process = work.start([program("pull_bench"), "follow", self.folder, json.dumps(odoo.settings()), token], env=odoo.hub_environment(),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            said = json.loads(line)
            if "number" in said:
                self.seen.setdefault((said["number"], said["model"]), said["at_us"] / 1e6)
            elif "following" in said:
                self.following = said
            elif "poll_ms" in said:
                self.poll_ms = said["poll_ms"]

    def end(self):
        self.process.stdin.close()
        self.thread.join(60)
        self.process.stdin = None
        self.work.stop(self.process)
        self.work.drop(self.folder)


def latency(odoo, work, options):
    """P7: writes at random moments; from Odoo's answer until the version is durable here."""
    chance = random.Random(options.seed)
    token = f"latency-{os.getpid()}-"
    follower = Follower(odoo, work, token)
    wait_for(lambda: follower.following or follower.process.poll() is not None, 900, "the first pull of all default models")
    if not follower.following:
        raise RuntimeError("the hub ended while it pulled")
    say(f"following {follower.following['following']} models, {follower.following['records']:,} records, T = 1 s")
    targets = [("res.partner", "function"), ("sale.order", "client_order_ref"), ("product.template", "description_sale"), ("sale.order.line", "name")]
    ids = {model: odoo.call(model, "search", domain=[], limit=20) for model, _ in targets}
    answered = {}
    for number in range(40 if options.quick else 200):
        time.sleep(chance.uniform(0.1, 1.1))
        model, field = targets[number % len(targets)]
        # Never one record twice in a short time: of two writes the hub may rightly see the last only.
        of_model = ids[model]
        odoo.call(model, "write", ids=[of_model[number // len(targets) % len(of_model)]], vals={field: f"{token}{number}"})
        answered[number, model] = time.time()
    try:
        wait_for(lambda: answered.keys() <= follower.seen.keys(), 30, "the last changes")
    except RuntimeError:
        pass  # counted below
    follower.end()
    times = [max(0.0, follower.seen[key] - at) for key, at in answered.items() if key in follower.seen]
    unseen = sorted(answered.keys() - follower.seen.keys())
    if unseen:
        say(f"P7: not seen: {unseen}")
    rpc = percentile(follower.poll_ms, 0.99) / 1000
    more = {"writes": len(answered), "seen": len(times), "rpc_p99_ms": rpc * 1000, "polls": len(follower.poll_ms), "rpc_p50_ms": percentile(follower.poll_ms, 0.5)}
    figure("P7 Odoo's answer to a write → durable here, p50", percentile(times, 0.5), "s", rounded3(0.5 + 1.5 * rpc), **more)
    figure("P7 Odoo's answer to a write → durable here, p99", percentile(times, 0.99), "s", rounded3(1 + 3 * rpc), **more)


def rounded3(value):
    return round(value, 3)


# --- P8 ----------------------------------------------------------------------------------------------------------------------

ORDER_FIELDS = ("name partner_id partner_invoice_id partner_shipping_id date_order state client_order_ref origin amount_untaxed amount_tax "
                "amount_total currency_id user_id team_id company_id pricelist_id note create_date write_date invoice_status").split()


def others_latency(odoo, work, options):
    """P8: somebody else's calls while the hub pulls everything at default settings, and while it is not there."""
    problems = []

    def one_call(times):
        began = time.monotonic()
        try:
            rows = odoo.call("sale.order", "search_read", domain=[], fields=ORDER_FIELDS, limit=80)
            times.append(time.monotonic() - began)
            if len(rows) != 80:
                problems.append(f"{len(rows)} orders instead of 80")
        except (OSError, RuntimeError) as error:
            problems.append(str(error))

    def segment(seconds, times):
        end = time.monotonic() + seconds
        threads = []
        while (now := time.monotonic()) < end:
            threads.append(threading.Thread(target=one_call, args=(times,)))
            threads[-1].start()
            time.sleep(max(0.0, 0.5 - (time.monotonic() - now)))
        for thread in threads:
            thread.join()
        if problems:
            raise RuntimeError(f"somebody else's call failed: {problems[0]}")

    rounds, seconds = (2, 10) if options.quick else (4, 40)
    idle, busy, pulled, folder, pulls = [], [], [], None, 0
    segment(5, [])  # warm
    for _ in range(rounds):
        segment(seconds, idle)
        # The pull that was interrupted goes on; the next begins when it is done.
        if folder is None or not pulling(folder):
            folder, pulls = work.fresh(), pulls + 1
        first = captured(folder)
        process = work.start([program("pull_bench"), "follow", folder, json.dumps(odoo.settings()), "-"], env=odoo.hub_environment(),
                             stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: captured(folder) > first or process.poll() is not None, 120, "the first captured records")
        first = captured(folder)
        segment(seconds, busy)
        last = captured(folder)
        if process.poll() is not None:
            raise RuntimeError("the hub ended during the pull")
        pulled.append((last - first) / seconds)
        work.stop(process)
    more = {"calls": len(busy), "seconds": rounds * seconds, "pulls": pulls, "records_pulled_per_second": median(pulled)}
    figure("P8 somebody else's p99 during our full pull, default settings / idle", percentile(busy, 0.99) / percentile(idle, 0.99), "ratio", 2,
           busy_ms=percentile(busy, 0.99) * 1000, idle_ms=percentile(idle, 0.99) * 1000, **more)
    figure("P8 the same at p50", percentile(busy, 0.5) / percentile(idle, 0.5), "ratio", busy_ms=percentile(busy, 0.5) * 1000,
           idle_ms=percentile(idle, 0.5) * 1000)


def pulling(folder):
    return number(folder, "SELECT count(*) FROM model WHERE state = 'pulling'") > 0


def captured(folder):
    return number(folder, "SELECT last FROM feed")


def number(folder, sql):
    try:
        with contextlib.closing(sqlite3.connect(f"file:{folder / 'dragoman.db'}?mode=ro", uri=True, timeout=5)) as store:
            return store.execute(sql).fetchone()[0]
    except sqlite3.Error:  # not made yet
        return 0

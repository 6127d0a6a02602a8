"""Group orders of ./dev bench: O1 to O4 with a real Odoo 19, MKT-70 with that and the stand-in, all by the program itself over HTTP.

The orders lie ready at the stand-in Cartona; the clock begins when the hub's job that pulls them begins, so the interval at which
marketplaces are asked is no part of any figure. It stops when what became of the last order is durable in the hub, which is
after Odoo's answer.
"""
import collections
import functools
import json
import os
import random
import subprocess
import threading
import time
import urllib.request
from datetime import datetime
from decimal import Decimal

from bench import common
from bench.common import figure, median, missing, of_median, percentile, say
from bench.market_rig import LINES, NEW, Cartona, Ceiling, Hub, Requests, Shop
from bench.pull import StandIn, python_with

BATCH = 50  # orders in one of the bare calls


def run(options):
    os.environ["DRAGOMAN_BIN"] = str(common.program("dragoman"))
    os.environ["DRAGOMAN_SANDBOX_ODOO"] = str(common.program("sandbox-odoo"))
    failed = []

    def part(what, figures, measure):
        """One part; if it fails, the others are still measured."""
        if not any(options.wants(name) for name in figures):
            return
        try:
            with common.Work() as work:
                measure(work)
        except Exception as error:  # said as a figure that is missing
            missing(what, str(error))
            failed.append(what)

    if any(options.wants(name) for name in ("O1", "O2", "O3", "O4", "MKT-70")):
        odoo = common.Odoo("bench-orders")
        try:
            say(f"Odoo: {odoo.versions}; 2 HTTP workers, no cron; orders of {LINES} lines, confirmed with their deliveries; "
                f"{NEW:.0%} of the customers new, the others found by phone, none of them met before")
            part("O1 and O2 in backlog", ("O1", "O2"), lambda work: Backlog(odoo, work, options).measure())
            part("O3 and O2 idle", ("O3", "O2"), lambda work: one_order(odoo, work, options))
            part("O4", ("O4",), lambda work: stock_out(odoo, work, options))
            part("MKT-70 several accounts of a real Odoo", ("MKT-70",),
                 lambda work: several_accounts(Site.of_real(work, odoo, options.seed + 3), options, "Odoo 19"))
        finally:
            odoo.down()
    part("MKT-70 several accounts", ("MKT-70",), lambda work: several_accounts(Site.of_stand_in(work, StandIn(work, [])), options, "stand-in Odoo"))
    part("MKT-70 a dead account", ("MKT-70",), lambda work: dead_account(work, options))
    if failed:
        raise RuntimeError(f"not measured: {', '.join(failed)}")


# --- O1, O2 in backlog ---------------------------------------------------------------------------------------------------------

SHARE_ALL = ("--no-default-models", "--bulk-share", "all")


class Backlog:
    """Rounds of bare calls and of the hub over equally many equal orders, in turn, each round in the other direction."""

    def __init__(self, odoo, work, options):
        self.odoo, self.options = odoo, options
        self.count = 200 if options.quick else 600
        self.shop = Shop(odoo, options.seed)
        products = work.fresh() / "products.json"
        products.write_text(json.dumps(self.shop.account_products()))
        self.cartona = Cartona(work, "--products", products)
        self.requests = Requests(odoo.log)
        self.hub = Hub(work, odoo.environment, self.cartona, self.shop.currency, SHARE_ALL)
        self.ceiling = Ceiling(odoo, self.shop)
        self.calls = collections.Counter()

    def bare(self):
        rows = self.shop.orders(self.count)
        began = time.monotonic()
        self.ceiling.run(rows, BATCH)
        return time.monotonic() - began

    def by_hub(self):
        ids = self.cartona.place(1, self.shop.orders(self.count))
        self.requests.since()
        job = self.hub.pull()
        self.hub.settle(ids, 600)
        self.calls.update(self.requests.since())
        at = self.hub.imported(ids)
        confirmed = int(self.odoo.sql("SELECT count(*) FROM sale_order WHERE state = 'sale' AND x_cartona_id IN ("
                                      + ",".join(f"'{one}'" for one in ids) + ")"))
        if confirmed != self.count:
            raise RuntimeError(f"{confirmed} of {self.count} orders are confirmed in Odoo")
        return max(at.values()) - self.hub.begun(job)

    def measure(self):
        try:
            for warm in (self.bare, self.by_hub):
                warm()
            self.calls.clear()
            bare, hub = [], []
            for pair in range(self.options.pairs):
                for name, run_one, times in [("bare", self.bare, bare), ("hub", self.by_hub, hub)][::1 if pair % 2 == 0 else -1]:
                    times.append(run_one())
                say(f"round {pair + 1} of {self.options.pairs}: {self.count} orders, bare {bare[-1]:.2f} s, hub {hub[-1]:.2f} s")
        finally:
            self.hub.stop()
        per_minute = [self.count * 60 / seconds for seconds in hub]
        of_median("O1 confirmed orders per minute / Odoo's ceiling", [b / h for b, h in zip(bare, hub)], "ratio", 0.90, "higher",
                  orders_per_minute=median(per_minute), ceiling_per_minute=self.count * 60 / median(bare), orders=self.count,
                  setting=f"--bulk-share all; ceiling: {self.odoo.workers} callers, {BATCH} orders a call")
        counted = sum(self.calls.values())
        figure("O2 RPC per order, in backlog", counted / (self.count * len(hub)), "calls", 0.3, calls=counted, orders=self.count * len(hub),
               paths=dict(self.calls.most_common(4)), note="counted in Odoo's log: every request it was sent")


# --- O3, O2 idle -----------------------------------------------------------------------------------------------------------------


class Script:
    """The odoorpc script, logged in and waiting; one line in, one round."""

    def __init__(self, odoo, work, cartona, account):
        python = python_with("odoorpc")
        if not python:
            raise RuntimeError("no python3 here has the module odoorpc (Debian: python3-odoorpc)")
        self.process = work.start([python, common.ROOT / "bench/peers/order.py", cartona.url, cartona.token(account)], env=odoo.hub_environment(),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the odoorpc script ended")
        return json.loads(line)

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()


def one_order(odoo, work, options):
    """Each alone with an idle Odoo: from the moment at which the list is asked for until the order is confirmed in Odoo."""
    rounds = 9 if options.quick else max(40, options.pairs)
    shop = Shop(odoo, options.seed + 1)
    products = work.fresh() / "products.json"
    products.write_text(json.dumps(shop.account_products()))
    cartona = Cartona(work, "--products", products, "--accounts", 2)
    hub = Hub(work, odoo.environment, cartona, shop.currency, ("--no-default-models",))
    requests = Requests(odoo.log)
    try:
        script = Script(odoo, work, cartona, 2)
        # Products and Odoo's caches are warm on both sides; what every order does anew stays.
        ids = cartona.place(1, shop.orders(30))
        hub.pull()
        hub.settle(ids, 120)
        cartona.place(2, shop.orders(10))
        script.round()
        sides = shop.orders(rounds), shop.orders(rounds)  # new customers at the same places on both sides
        calls, ours, theirs = collections.Counter(), [], []

        def by_hub(row):
            ids = cartona.place(1, [row])
            requests.since()
            job = hub.pull()
            hub.settle(ids, 60)
            calls.update(requests.since())
            ours.append(hub.imported(ids)[ids[0]] - hub.begun(job))

        def by_script(row):
            ids = cartona.place(2, [row])
            told = script.round()
            if [one["order"] for one in told["confirmed"]] != ids:
                raise RuntimeError(f"the script confirmed {told['confirmed']} instead of {ids}")
            theirs.append(told["confirmed"][0]["at"] - told["began"])

        for pair in range(rounds):
            both = [(by_hub, sides[0][pair]), (by_script, sides[1][pair])]
            for do, row in both[::1 if pair % 2 == 0 else -1]:
                do(row)
    finally:
        hub.stop()
    of_median("O3 one order, pulled to confirmed in Odoo / odoorpc script", [a / b for a, b in zip(ours, theirs)], "ratio", 0.85,
              milliseconds=median(ours) * 1000, script_milliseconds=median(theirs) * 1000,
              note="from the beginning of the job that pulls it (the script: of its request) to confirmed, in the hub durably")
    figure("O2 RPC per order, idle", sum(calls.values()) / rounds, "calls", 2, paths=dict(calls.most_common(4)), orders=rounds)


# --- O4 --------------------------------------------------------------------------------------------------------------------------


def stock_out(odoo, work, options):
    """Counts of single products in Odoo, one after the other at moments of their own, while nothing else happens: until the
    stand-in Cartona had the call with the new figure, by its own record."""
    changes = 30 if options.quick else 300
    shop = Shop(odoo, options.seed + 2, stored=True)
    products = work.fresh() / "products.json"
    products.write_text(json.dumps(shop.account_products()))
    cartona = Cartona(work, "--products", products)
    hub = Hub(work, odoo.environment, cartona, shop.currency, ("--no-default-models",))
    chance = random.Random(options.seed)
    shelf = {code: shop.count(code, 1000) for code in shop.codes}
    writes = {"seq": 0}

    def there():
        return {row["internal_product_id"]: row["available_stock_quantity"] for row in cartona.control("/products", {}, "GET")["products"]}
    try:
        hub.hub.ask("market", "catalog", hub.name(1))
        common.wait_for(hub.quiet, 120, "the products of the marketplace", every=0.1)
        hub.hub.ask("market", "confirm", hub.name(1), "--all")
        common.wait_for(lambda: set(there().values()) == {1000}, 120, "the first figures", every=0.2)
        times, whole = [], []
        for number in range(changes):
            time.sleep(chance.uniform(0.2, 1.2))  # the hub looks every second: each change comes at another moment of that
            code, quantity = shop.codes[number % len(shop.codes)], 1001 + number
            asked = time.time()
            shop.count(code, quantity, shelf[code])
            answered = time.time()

            def told():
                for row in cartona.control("/writes", {"internal_product_id": code, "since": writes["seq"]}, "GET")["writes"]:
                    if row["field"] == "available_stock_quantity" and row["to"] == str(quantity):
                        return row
                return None
            common.wait_for(told, 60, f"the stock of {code}", every=0.02)
            row = told()
            writes["seq"] = row["seq"]
            at = datetime.fromisoformat(row["at"].replace("Z", "+00:00")).timestamp()
            times.append(at - answered)
            whole.append(at - asked)
    finally:
        hub.stop()
    figure("O4 stock counted in Odoo to the marketplace's call, p99", percentile(times, 0.99), "s", 2, p50=median(times), greatest=max(times),
           p99_from_request=percentile(whole, 0.99), changes=changes, products=len(shop.codes),
           note="from Odoo's answer, which comes right after its commit; p99_from_request: from when Odoo was asked")


# --- MKT-70 ----------------------------------------------------------------------------------------------------------------------

MIX = {"two_lines": 0.08, "discount": 0.15, "credit": 0.15, "installment": 0, "wallet": 0, "by_cartona": 0.2, "unknown_product": 0, "wrong": 0}


class Site:
    """A hub between an Odoo and a stand-in Cartona of five accounts that sell what that Odoo has. `call`: as common.Odoo.call."""

    ACCOUNTS = 5

    def __init__(self, work, environment, call, products, **settings):
        self.call = call
        self.cartona = Cartona(work, "--accounts", self.ACCOUNTS, "--products", products)
        currency = call("res.company", "search_read", domain=[], fields=["currency_id"], limit=1, order="id")[0]["currency_id"][1]
        self.hub = Hub(work, environment, self.cartona, currency, SHARE_ALL, accounts=self.ACCOUNTS, **settings)

    @classmethod
    def of_stand_in(cls, work, odoo, **settings):
        return cls(work, odoo.values, functools.partial(call, odoo), common.ROOT / "sandbox/cartona/products/stand_in_odoo.json", **settings)

    @classmethod
    def of_real(cls, work, odoo, seed):
        products = work.fresh() / "products.json"
        products.write_text(json.dumps(Shop(odoo, seed).account_products()))
        return cls(work, odoo.environment, odoo.call, products)

    def generate(self, account, count, seed):
        return self.cartona.control("/orders", {"account": f"cartona-{account}", "count": count, "seed": seed, "mix": MIX})["hashed_ids"]

    def wrong(self, expected):
        """From what both sides have themselves: every order once, and to the cent. In words, the first few."""
        placed = {row["order"]["hashed_id"]: row for row in self.cartona.control("/orders", {"limit": 1_000_000}, "GET")["orders"]}
        found = collections.defaultdict(list)
        for order in self.call("sale.order", "search_read", domain=[["x_cartona_id", "in", sorted(placed)]],
                          fields=["x_cartona_id", "amount_total", "order_line"], order="id"):
            found[order["x_cartona_id"]].append(order)
        told = [f"{len(placed)} orders were placed, not {expected}"] if len(placed) != expected else []
        for one, row in placed.items():
            here = found[one]
            if len(here) != 1:
                told.append(f"{one} is {len(here)} times in Odoo")
            elif cents(here[0]["amount_total"]) != cents(row["order"]["total_price"]):
                told.append(f"{one} comes to {here[0]['amount_total']} and was ordered for {row['order']['total_price']}")
            elif len(here[0]["order_line"]) != len(row["order"]["order_details"]):
                told.append(f"{one} has {len(here[0]['order_line'])} lines")
            if not row["acked"]:
                told.append(f"{one} was not acknowledged")
        return told


def cents(amount):
    return Decimal(str(amount)).quantize(Decimal("0.01"))


def call(stand_in, model, method, **arguments):
    """One JSON-2 call to the stand-in Odoo."""
    values = stand_in.values
    request = urllib.request.Request(f"{values['ODOO_URL']}/json/2/{model}/{method}", json.dumps(arguments).encode(), {
        "Authorization": f"bearer {values['ODOO_API_KEY']}", "Content-Type": "application/json", "X-Odoo-Database": values["ODOO_DB"]})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as answer:
        return json.loads(answer.read())


def several_accounts(site, options, odoo):
    """A backlog at five accounts at once."""
    each = 100 if options.quick else 2000
    try:
        accounts = range(1, site.ACCOUNTS + 1)
        ids = [one for account in accounts for one in site.generate(account, each, options.seed + account)]
        jobs = [site.hub.pull(account) for account in accounts]
        site.hub.settle(ids, 3600)
        at = site.hub.imported(ids)
        seconds = max(at.values()) - min(site.hub.begun(job) for job in jobs)
        wrong = site.wrong(len(ids))
        if wrong:
            raise RuntimeError(f"{len(wrong)} orders are not as they should be: {'; '.join(wrong[:3])}")
        figure(f"MKT-70 orders a minute, five accounts at once, {odoo}", len(ids) * 60 / seconds, "orders/min", 100, "higher",
               orders=len(ids), seconds=seconds, note="each once in Odoo and acknowledged, totals equal to the cent")
    finally:
        site.hub.stop()


def dead_account(work, options):
    """Orders trickle in at four accounts while the fifth is well and silent, refuses connections, or hangs."""
    seconds, timeout, pairs = (10, 4, 2) if options.quick else (25, 10, options.pairs)
    odoo = StandIn(work, [])
    p99 = collections.defaultdict(list)
    p50 = collections.defaultdict(list)
    for pair in range(pairs):
        modes = ["alive", "refused", "hanging"]
        for mode in modes if pair % 2 == 0 else reversed(modes):
            times = live_times(work, odoo, options.seed * 1000 + pair * 10 + modes.index(mode), mode, seconds, timeout)
            p99[mode].append(percentile(times, 0.99))
            p50[mode].append(percentile(times, 0.5))
        say(f"round {pair + 1} of {pairs}: " + ", ".join(f"{mode} p50 {p50[mode][-1] * 1000:.0f} p99 {p99[mode][-1] * 1000:.0f} ms" for mode in modes))
    for mode, what in (("refused", "refuses connections"), ("hanging", "hangs until time-out")):
        of_median(f"MKT-70 p99 of four live accounts beside one that {what} / with it alive", [a / b for a, b in zip(p99[mode], p99["alive"])], "ratio", 1.2,
                  p99_ms=median(p99[mode]) * 1000, alive_p99_ms=median(p99["alive"]) * 1000, p50_ms=median(p50[mode]) * 1000,
                  alive_p50_ms=median(p50["alive"]) * 1000, note="from placed at the marketplace to imported, asked for every second")


def live_times(work, odoo, seed, mode, seconds, timeout):
    site = Site.of_stand_in(work, odoo, poll_seconds=1, timeout_seconds=timeout)
    try:
        dead, live = site.ACCOUNTS, range(1, site.ACCOUNTS)
        settled = [one for account in live for one in site.generate(account, 20, seed)]
        backlog = site.generate(dead, 300, seed)
        if mode != "alive":  # it dies with acknowledgements under way
            site.cartona.control("/faults", {"match": {"account": f"cartona-{dead}", "path": "order/update-order-status"}, "action": {"kind": "hang"}})
        common.wait_for(lambda: len(site.hub.imported(settled + backlog)) == len(settled + backlog), 120, "what the accounts had at first", every=0.2)
        site.cartona.control("/accounts", {"name": f"cartona-{dead}", "dead": {"alive": "no", "refused": "closed", "hanging": "hang"}[mode]}, "PATCH")
        placed, lock = {}, threading.Lock()

        def arrive(account):
            chance, number, end = random.Random(seed * 100 + account), 0, time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(chance.uniform(0.1, 0.7))
                at = time.time()
                [one] = site.cartona.control("/orders", {"account": f"cartona-{account}", "count": 1, "from": 1000 + number, "seed": seed, "mix": MIX})["hashed_ids"]
                number += 1
                with lock:
                    placed[one] = at
        threads = [threading.Thread(target=arrive, args=(account,)) for account in live]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        common.wait_for(lambda: len(site.hub.imported(list(placed))) == len(placed), 120, "the live accounts' orders", every=0.2)
        imported = site.hub.imported(list(placed))
        return [imported[one] - at for one, at in placed.items()]
    finally:
        site.hub.stop()
        work.stop(site.cartona.process)

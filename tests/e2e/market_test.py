#!/usr/bin/env python3
"""Orders of a marketplace come into Odoo: the hub's own program between the stand-in Cartona and an Odoo.

Prints 'PASS name' or 'FAIL name: why' per test, for ./dev test. The programs are build/asan/dragoman,
build/asan/sandbox/sandbox-odoo and build/asan/sandbox/sandbox-cartona, or DRAGOMAN_BIN, DRAGOMAN_SANDBOX_ODOO and
DRAGOMAN_SANDBOX_CARTONA. Arguments: only tests whose name holds one of them. DRAGOMAN_SEED replays what is ordered.
"""
import http.client
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import traceback
import urllib.parse
from decimal import Decimal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from crash_rig import ROOT, Hub, StandIn, Target, read_env, wait_until  # noqa: E402

CARTONA = os.environ.get("DRAGOMAN_SANDBOX_CARTONA") or str(ROOT / "build" / "asan" / "sandbox" / "sandbox-cartona")
SEED = int(os.environ.get("DRAGOMAN_SEED") or random.randrange(1_000_000))
STATES = {"pending": ("draft", "sent"), "approved": ("sale", "done"), "assigned_to_salesman": ("sale", "done")}
# Where it matters most that the process dies.
KILLS = ("market.pulled", "market.stored", "deliver.intended", "deliver.sent", "finish.before_commit", "market.acknowledged")


class Cartona:
    """The stand-in Cartona, for the length of a `with`."""

    def __init__(self, folder, *arguments):
        self.folder, self.arguments = pathlib.Path(folder), arguments

    def __enter__(self):
        ready = self.folder / "cartona.env"
        self.process = subprocess.Popen([CARTONA, "--seed", str(SEED), "--ready-file", str(ready), *self.arguments],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(lambda: ready.exists() or self.process.poll() is not None, 60, "the stand-in Cartona is not ready")
        self.env = read_env(ready)
        self.address = urllib.parse.urlparse(self.env["CARTONA_URL"]).netloc
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)

    def control(self, path, body=None, method="POST"):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, "/sandbox" + path, json.dumps(body or {}))
            answer = connection.getresponse()
            value = json.loads(answer.read())
            assert answer.status == 200, value
            return value
        finally:
            connection.close()

    def order(self, lines, **given):
        """Lines are (line's product code, amount, price)."""
        rows = [{"internal_product_id": code, "amount": amount, "selling_price": price} for code, amount, price in lines]
        given.setdefault("retailer", {"retailer_name": "Demo Market", "retailer_code": "R-1", "retailer_number": "+200000000001"})
        return self.control("/orders", {"orders": [{"order_details": rows, **given}]})["hashed_ids"][0]

    def orders(self):
        return {row["order"]["hashed_id"]: row for row in self.control("/orders", {"limit": 100_000}, "GET")["orders"]}


class Shop:
    """A hub between a Cartona and an Odoo, with products that both know."""

    def __init__(self, env, folder, cartona, **settings):
        self.odoo, self.cartona, self.env = Target(env), cartona, env
        self.tag = self.odoo.tag.strip("-")
        self.codes = [f"{self.tag}-{n}" for n in range(6)]
        self.products = {code: self.make_product(code) for code in self.codes}
        self.hub = Hub(folder, odoo={k: env[k] for k in ("ODOO_URL", "ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD")})
        self.name = "shop" + self.tag[-8:]
        self.hub.start()
        assert self.hub.ready(), self.hub.tail()
        wait_until(lambda: any(c["name"] == "main" for c in self.hub.ask("connection", "list")["connections"]), 60, self.hub.tail)
        token = pathlib.Path(folder) / "token"
        token.write_text(cartona.env["CARTONA_TOKEN"])
        currency = self.odoo.call("res.company", "search_read", [], ["currency_id"], limit=1, order="id")[0]["currency_id"][1]
        options = {"poll_seconds": 1, "hold_retry_seconds": 1, "batch_size": 20, "currency": currency, **settings}
        words = [word for key, value in options.items() for word in ("--" + key.replace("_", "-"), str(value))]
        self.hub.ask("connection", "add", self.name, "--kind", "cartona", "--url", cartona.env["CARTONA_URL"], "--odoo", "main",
                     "--secret-file", str(token), *words)
        self.hub.provision(env)

    def make_product(self, code):
        return self.odoo.call("product.product", "create", {"name": "Demo " + code, "default_code": code, "list_price": 10})

    def sold(self):
        """What Odoo has of this marketplace, by the marketplace's id."""
        found = self.odoo.call("sale.order", "search_read", [["x_marketplace_config", "=", self.name]],
                               ["name", "state", "amount_total", "x_cartona_id", "x_marketplace_status", "partner_id"])
        by_id = {}
        for order in found:
            by_id.setdefault(order["x_cartona_id"], []).append(order)
        for orders in by_id.values():
            for order in orders:
                order["lines"] = self.odoo.call("sale.order.line", "search_read", [["order_id", "=", order["id"]]],
                                                ["product_id", "product_uom_qty", "price_unit"])
        return by_id

    def row(self, order):
        return self.hub.ask("market", "order", self.name, order)

    def until(self, order, good, seconds=60):
        """A wait with an end, for what the hub does in its own time."""
        def look():
            try:
                row = self.row(order)
            except AssertionError:
                return None
            return row if good(row) else None
        return wait_until(look, seconds, lambda: f"{self.hub.ask('market', 'orders')} {self.hub.tail()}", every=0.2)

    def settled(self):
        """Every order that the marketplace has was dealt with, and it knows."""
        try:
            rows = self.hub.ask("market", "orders", "--limit", "1000")["orders"]
        except AssertionError:
            return False  # it died while it was asked
        known = {row["order"] for row in rows if row["state"] in ("imported", "cancelled") and row["acknowledged"]}
        return set(self.cartona.orders()) <= known

    def judge(self):
        """From what both sides have themselves: every order once, to the cent, in its state, acknowledged in its newest version."""
        wrong, sold, placed = [], self.sold(), self.cartona.orders()
        for id, row in placed.items():
            order, here = row["order"], sold.pop(id, [])
            if len(here) != 1:
                wrong.append(f"{id} is {len(here)} times in Odoo")
                continue
            total = Decimal(str(order["total_price"]))
            if Decimal(str(here[0]["amount_total"])).quantize(Decimal("0.01")) != total.quantize(Decimal("0.01")):
                wrong.append(f"{id} comes to {here[0]['amount_total']}, and was ordered for {total}")
            if here[0]["state"] not in STATES[order["status"]]:
                wrong.append(f"{id} is {order['status']} there and {here[0]['state']} in Odoo")
            lines = sorted((Decimal(str(one["amount"])), Decimal(str(one["selling_price"]))) for one in order["order_details"])
            have = sorted((Decimal(str(one["product_uom_qty"])), Decimal(str(one["price_unit"]))) for one in here[0]["lines"])
            if lines != have:
                wrong.append(f"{id} has the lines {have}, and was ordered as {lines}")
            if not row["acked"]:
                wrong.append(f"{id} was not acknowledged")
        wrong += [f"{id} is in Odoo, and nobody ordered it" for id in sold]
        return wrong

    def end(self):
        self.hub.end()


def the_way_of_an_order(env, folder):
    """A new order is confirmed in Odoo, one without its product is held until that is there, and each is acknowledged once."""
    with Cartona(folder) as cartona:
        shop = Shop(env, folder, cartona)
        try:
            good = cartona.order([(shop.codes[0], 2, 65), (shop.codes[0], 4, 100)], status="approved")
            row = shop.until(good, lambda r: r["state"] == "imported" and r["acknowledged"])
            here = shop.sold()[good]
            assert len(here) == 1 and here[0]["state"] in ("sale", "done") and here[0]["amount_total"] == 530, here
            assert len(here[0]["lines"]) == 2, "one product on two lines stays two lines"
            assert [event["what"] for event in row["story"]] == ["version", "imported", "acknowledged"], row["story"]

            missing = shop.tag + "-missing"
            held = cartona.order([(missing, 1, 12.5)], status="approved")
            row = shop.until(held, lambda r: r["state"] == "held")
            assert row["hold"] == "import_notmatched" and missing in row["reason"], row
            assert not cartona.orders()[held]["acked"] and held not in shop.sold()
            holds = shop.hub.ask("market", "holds")["holds"]
            assert [h["hold"] for h in holds] == ["import_notmatched"] and holds[0]["orders"] == 1, holds
            shop.make_product(missing)
            shop.until(held, lambda r: r["state"] == "imported" and r["acknowledged"])

            cartona.control("/act", {"hashed_id": good, "do": "cancel", "by": "shop", "force": True})
            shop.until(good, lambda r: r["state"] == "cancelled" and r["acknowledged"])
            assert shop.sold()[good][0]["state"] == "cancel"
            acks = [line for line in cartona.control("/ledger", {"what": "acked"}, "GET")["ledger"] if line["hashed_id"] == held]
            assert len(acks) == 1, acks
            shop.hub.stop()
            return f"{len(shop.sold())} orders"
        finally:
            shop.end()


def killed_at_every_step(env, folder):
    """The hub dies at each step of an order's way; at the end both sides' own records agree, to the cent."""
    chance = random.Random(SEED)
    with Cartona(folder) as cartona:
        shop = Shop(env, folder, cartona, batch_size=5)
        try:
            shop.hub.stop()
            kills = 0
            for step in KILLS:
                for _ in range(8):
                    lines = [(chance.choice(shop.codes), chance.randrange(1, 20), chance.randrange(100, 9999) / 100)
                             for _ in range(chance.randrange(1, 4))]
                    cartona.order(lines, status=chance.choice(list(STATES)[:2]),
                                  retailer={"retailer_name": "Shop", "retailer_code": f"R-{chance.randrange(5)}"})
                shop.hub.start(kill_at=f"{step}:1")
                wait_until(lambda: not shop.hub.lives() or (shop.hub.healthy() and shop.settled()), 120,
                           lambda: f"{step}: {shop.hub.tail()}", every=0.2)
                if shop.hub.lives():
                    shop.hub.stop()
                else:
                    kills += 1
            shop.hub.start()
            assert shop.hub.ready(), shop.hub.tail()
            wait_until(lambda: shop.hub.retry_suspects() or shop.settled(), 180, lambda: f"{shop.hub.ask('market', 'orders')}")
            wait_until(shop.settled, 180, lambda: f"{shop.hub.ask('market', 'orders')} {shop.hub.tail()}")
            wrong = shop.judge()
            assert not wrong, "; ".join(wrong[:5])
            older = cartona.control("/ledger", {"what": "ack_of_an_older_version"}, "GET")["ledger"]
            assert not older, older
            assert kills == len(KILLS), f"only {kills} kills"
            shop.hub.stop()
            return f"{kills} kills, {len(cartona.orders())} orders, each once"
        finally:
            shop.end()


TESTS = {"TheWayOfAnOrder": the_way_of_an_order, "KilledAtEveryStepOrdersAreThereOnce": killed_at_every_step}


def run(server, env, wanted):
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="dragoman-market-") as folder:
            try:
                told = TESTS[name](env, pathlib.Path(folder))
                print(f"  {name}/{server} (seed {SEED}): {told}", file=sys.stderr, flush=True)
                print(f"PASS Orders.{name}/{server}", flush=True)
            except Exception as error:  # noqa: BLE001 - any end of a test is told as its failure
                traceback.print_exc(limit=4)
                print(f"FAIL Orders.{name}/{server}: seed {SEED}: {' '.join(str(error).split())[:1200]}", flush=True)


def main():
    patterns = [p.lower() for p in sys.argv[1:]]
    wanted = [n for n in TESTS if not patterns or any(p in f"orders.{n}/standin19".lower() for p in patterns)]
    if wanted:
        with tempfile.TemporaryDirectory(prefix="dragoman-market-") as folder, StandIn(folder) as env:
            run("StandIn19", env, wanted)


main()

"""What the tests of marketplaces' orders are made of: the stand-in Cartona, and a hub between it and an Odoo.

What Odoo has is read by SQL where it is a real one, past everything that Odoo may think, and judged against what the
stand-in Cartona has itself. The hub is asked for its own view only where that is what is looked at.
"""
import contextlib
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
import urllib.request
from decimal import Decimal

from crash_rig import ROOT, Hub, StandIn, Target, is_wanted, read_env, wait_until

CARTONA = os.environ.get("DRAGOMAN_SANDBOX_CARTONA") or str(ROOT / "build" / "asan" / "sandbox" / "sandbox-cartona")
SEED = int(os.environ.get("DRAGOMAN_SEED") or random.randrange(1_000_000))
CONFIRMED = ("sale", "done")  # a locked order is `done` on 14
STATES = {"pending": ("draft", "sent"), "approved": CONFIRMED, "assigned_to_salesman": CONFIRMED, "delivered": CONFIRMED,
          "cancelled_by_retailer": ("cancel",), "cancelled_by_supplier": ("cancel",)}
REAL = ("Odoo19", "Odoo14")
PATIENCE = 240  # seconds; a real Odoo shares two cores with everything else


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
        rows = [{"supplier_product_id": code, "internal_product_id": code, "amount": amount, "selling_price": price} for code, amount, price in lines]
        given.setdefault("retailer", {"retailer_name": "Demo Market", "retailer_code": "R-1", "retailer_number": "+200000000001"})
        return self.control("/orders", {"orders": [{"order_details": rows, **given}]})["hashed_ids"][0]

    def act(self, order, do, **more):
        self.control("/act", {"hashed_id": order, "do": do, "force": True, **more})

    def orders(self):
        return {row["order"]["hashed_id"]: row for row in self.control("/orders", {"limit": 100_000}, "GET")["orders"]}


@contextlib.contextmanager
def a_database():
    """The address of a new, empty database of the PostgreSQL that tests have; None without one."""
    server = os.environ.get("DRAGOMAN_TEST_PG")
    if not server:
        yield None
        return
    name = f"market_{random.SystemRandom().randrange(1 << 40):010x}"

    def run(sql):
        done = subprocess.run(["psql", server, "-XAtqc", sql], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr[-500:]
    run(f"CREATE DATABASE {name}")
    try:
        yield urllib.parse.urlunparse(urllib.parse.urlparse(server)._replace(path="/" + name))
    finally:
        run(f"DROP DATABASE {name} WITH (FORCE)")


class Shop:
    """A hub between a Cartona and an Odoo, with products that both know.

    `proxy`: an address between the hub and that Odoo. `store`: of PostgreSQL, with so many more nodes beside it (`others`).
    """

    def __init__(self, env, folder, cartona, proxy=None, store="", more_nodes=0, **settings):
        self.odoo, self.cartona, self.env = Target(env), cartona, env
        self.real, self.series = bool(env.get("ODOO_PG_URI")), int(env["ODOO_VERSION"].split(".")[0])
        self.tag = self.odoo.tag.strip("-")
        self.codes = [f"{self.tag}-{n}" for n in range(6)]
        self.products = {code: self.make_product(code) for code in self.codes}
        login = {k: env[k] for k in ("ODOO_URL", "ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD")}
        nodes = {"DRAGOMAN_SECRET_KEY": random.SystemRandom().randbytes(32).hex(), "DRAGOMAN_JOBS_LEASE_SECONDS": "4"} if more_nodes else {}
        self.hub = Hub(folder, odoo=login | ({"ODOO_URL": proxy} if proxy else {}), store=store, settings=nodes)
        self.others = [Hub(folder, store=store, name=f"node{n}", settings=nodes) for n in range(more_nodes)]
        self.name = "shop" + self.tag[-8:]
        self.hub.start()
        assert self.hub.ready(), self.hub.tail()
        wait_until(lambda: any(c["name"] == "main" for c in self.hub.ask("connection", "list")["connections"]), 60, self.hub.tail)
        token = pathlib.Path(folder) / "token"
        token.write_text(cartona.env["CARTONA_TOKEN"])
        currency = self.odoo.call("res.company", "search_read", [], ["currency_id"], limit=1, order="id")[0]["currency_id"][1]
        options = {"poll_seconds": 1, "hold_retry_seconds": 1, "batch_size": 20, "currency": currency, **settings}
        words = [word for key, value in options.items() for word in ("--" + key.replace("_", "-"), str(value))]
        self.hub.provision(env, "--market")
        self.account = ["--kind", "cartona", "--url", cartona.env["CARTONA_URL"], "--odoo", "main", *words]
        self.hub.ask("connection", "add", self.name, "--secret-file", str(token), *self.account)

    def one_more_account(self, folder, number, *words):
        """The stand-in's account of that number beside the first one, set up as that is but for `words`. Its name here."""
        token = pathlib.Path(folder) / f"token-{number}"
        token.write_text(self.cartona.env[f"CARTONA_TOKEN_{number}"])
        return self.connect(f"{self.name}-{number}", token, *words)

    def connect(self, name, token, *words):
        self.hub.ask("connection", "add", name, "--secret-file", str(token), *self.account, *words)
        return name

    # --- in Odoo ---------------------------------------------------------------------------------------------------------

    def make_product(self, code, stored=False, **values):
        """`stored`: one whose stock counts."""
        if stored:
            values |= {"type": "product"} if self.series < 18 else {"type": "consu", "is_storable": True}
        return self.odoo.call("product.product", "create", {"name": "Demo " + code, "default_code": code, "list_price": 10, **values})

    def stock(self, product, quantity):
        """So much of it is in the company's first warehouse."""
        place = self.odoo.call("stock.warehouse", "search_read", [], ["lot_stock_id"], limit=1, order="id")[0]["lot_stock_id"][0]
        values = {"product_id": product, "location_id": place}
        if not self.real:
            return self.odoo.call("stock.quant", "create", {**values, "quantity": quantity})
        quant = self.odoo.call("stock.quant", "create", {**values, "inventory_quantity": quantity}, context={"inventory_mode": True})
        if self.series >= 15:  # 14 counts it at once
            self.json_rpc("stock.quant", "action_apply_inventory", [quant])

    def press(self, model, button, id):
        """A button of Odoo's, without the questions that it would ask."""
        return self.json_rpc(model, button, [id], disable_cancel_warning=True, skip_backorder=True, skip_immediate=True, skip_sms=True)

    def ship(self, order, quantity=None):
        """Somebody ships so much of every line that is still to be shipped, or all of it; what is left stays as a backorder."""
        sold = self.one(order)["id"]
        if not self.real:
            for line in self.odoo.call("sale.order.line", "search_read", [["order_id", "=", sold]], ["product_uom_qty"]):
                self.odoo.call("sale.order.line", "write", [line["id"]], {"qty_delivered": line["product_uom_qty"]})
            return
        open_ones = [["sale_id", "=", sold], ["state", "not in", ["done", "cancel"]]]
        for picking in self.odoo.call("stock.picking", "search", open_ones):
            for move in self.odoo.call("stock.move", "search_read", [["picking_id", "=", picking]], ["product_uom_qty"]):
                count = move["product_uom_qty"] if quantity is None else quantity
                self.odoo.call("stock.move", "write", [move["id"]],
                               {"quantity": count, "picked": True} if self.series >= 17 else {"quantity_done": count})
            self.press("stock.picking", "button_validate", picking)

    def json_rpc(self, model, method, ids, **context):
        """For what answers nothing, which XML-RPC calls an error."""
        args = [self.env["ODOO_DB"], self.odoo.uid, self.env["ODOO_PASSWORD"], model, method, [ids], {"context": context}]
        body = {"jsonrpc": "2.0", "method": "call", "id": 1, "params": {"service": "object", "method": "execute_kw", "args": args}}
        request = urllib.request.Request(self.env["ODOO_URL"] + "/jsonrpc", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            said = json.loads(answer.read())
        assert "error" not in said, said["error"]["data"]["message"]
        return said.get("result")

    def sold(self, account=None):
        """What Odoo has of this marketplace (or of another account), by the marketplace's id. Numbers are decimal text."""
        by_id, name = {}, account or self.name
        for order in self.sold_by_sql(name) if self.real else self.sold_by_rpc(name):
            by_id.setdefault(order["x_cartona_id"], []).append(order)
        return by_id

    def sold_by_sql(self, name):
        rows = self.odoo.sql(f"""
            SELECT json_build_object('id', o.id, 'name', o.name, 'state', o.state, 'total', o.amount_total::text,
              'x_cartona_id', o.x_cartona_id, 'status', o.x_marketplace_status, 'number', o.x_marketplace_order_number,
              'delivered_by', o.x_delivered_by, 'ours', o.x_is_marketplace_order, 'payment', o.x_marketplace_payment_method,
              'credit', o.x_marketplace_credit::text, 'wallet', o.x_marketplace_wallet::text,
              'installment', o.x_marketplace_installment::text, 'discount', o.x_marketplace_discount_supplier::text,
              'market_discount', o.x_marketplace_discount_marketplace::text, 'tax', o.amount_tax::text, 'carrier', o.carrier_id,
              'partner', json_build_object('id', p.id, 'ref', p.ref, 'name', p.name, 'phone', p.phone),
              'lines', (SELECT json_agg(json_build_object('product', l.product_id, 'quantity', l.product_uom_qty::text,
                          'price', l.price_unit::text, 'delivered', l.qty_delivered::text) ORDER BY l.id)
                        FROM sale_order_line l WHERE l.order_id = o.id AND l.product_uom_qty <> 0),
              'pickings', (SELECT json_agg(k.state ORDER BY k.id) FROM stock_picking k WHERE k.sale_id = o.id),
              'moved', (SELECT sum(m.product_uom_qty)::text FROM stock_move m JOIN sale_order_line l ON l.id = m.sale_line_id
                        WHERE l.order_id = o.id AND m.state = 'done'))
            FROM sale_order o JOIN res_partner p ON p.id = o.partner_id WHERE o.x_marketplace_config = '{name}'
            ORDER BY o.id""")
        return [json.loads(line) for line in rows.splitlines()]

    def sold_by_rpc(self, name):
        names = {"status": "x_marketplace_status", "number": "x_marketplace_order_number", "delivered_by": "x_delivered_by",
                 "ours": "x_is_marketplace_order", "payment": "x_marketplace_payment_method", "credit": "x_marketplace_credit",
                 "wallet": "x_marketplace_wallet", "installment": "x_marketplace_installment", "total": "amount_total",
                 "discount": "x_marketplace_discount_supplier", "market_discount": "x_marketplace_discount_marketplace",
                 "tax": "amount_tax"}
        found = self.odoo.call("sale.order", "search_read", [["x_marketplace_config", "=", name]],
                               ["name", "state", "x_cartona_id", "partner_id", *names.values()])
        for order in found:
            order.update({name: str(order[field]) if isinstance(order[field], float) else order[field]
                          for name, field in names.items()})
            order["partner"] = self.odoo.call("res.partner", "read", [order["partner_id"][0]], ["ref", "name", "phone"])[0]
            lines = self.odoo.call("sale.order.line", "search_read", [["order_id", "=", order["id"]], ["product_uom_qty", "!=", 0]],
                                   ["product_id", "product_uom_qty", "price_unit", "qty_delivered"], order="id")
            order["lines"] = [{"product": one["product_id"][0], "quantity": str(one["product_uom_qty"]),
                               "price": str(one["price_unit"]), "delivered": str(one["qty_delivered"])} for one in lines]
            pickings = self.odoo.call("stock.picking", "search_read", [["sale_id", "=", order["id"]]], ["state"], order="id")
            order["pickings"] = [one["state"] for one in pickings]
            moves = self.odoo.call("stock.move", "search_read", [["sale_line_id", "in", [one["id"] for one in lines]],
                                                                 ["state", "=", "done"]], ["product_uom_qty"])
            order["moved"] = str(sum(one["product_uom_qty"] for one in moves))
        return found

    def one(self, order):
        """The order in Odoo, which is there once."""
        found = self.sold().get(order, [])
        assert len(found) == 1, f"{order} is {len(found)} times in Odoo"
        return found[0]

    # --- at the hub ------------------------------------------------------------------------------------------------------

    def row(self, order):
        return self.hub.ask("market", "order", self.name, order)

    def test_sync(self, order, *words):
        return self.hub.ask("market", "test-sync", self.name, order, *words)

    def until(self, order, good, seconds=PATIENCE):
        """A wait with an end, for what the hub does in its own time."""
        last = {}

        def look():
            try:
                last["row"] = self.row(order)
            except AssertionError:
                return None
            return last["row"] if good(last["row"]) else None
        return wait_until(look, seconds, lambda: f"{json.dumps(last.get('row'))[:3000]} {self.hub.tail()}", every=0.2)

    def taken_in(self, order):
        return self.until(order, lambda r: r["state"] == "imported" and r["acknowledged"])

    def settled(self, placed=None):
        """Every order that the marketplace has (or each of `placed`) was dealt with, and it knows."""
        try:
            rows, before = [], []
            while before is not None:
                page = self.hub.ask("market", "orders", "--limit", "1000", *before)
                rows += page["orders"]
                before = ["--before", str(page["next"])] if page["next"] else None
        except AssertionError:
            return False  # it died while it was asked
        known = {row["order"] for row in rows if row["state"] in ("imported", "cancelled") and row["acknowledged"]}
        return set(self.cartona.orders() if placed is None else placed) <= known

    # --- the verdict -----------------------------------------------------------------------------------------------------

    def judge(self):
        """From what both sides have themselves: every order once, to the cent, in its state, acknowledged in its newest version."""
        wrong, sold, placed = [], self.sold(), self.cartona.orders()
        codes = {code: id for code, id in self.products.items()}
        for id, row in placed.items():
            order, here = row["order"], sold.pop(id, [])
            if len(here) != 1:
                wrong.append(f"{id} is {len(here)} times in Odoo")
                continue
            here = here[0]
            total = Decimal(str(order["total_price"])).quantize(Decimal("0.01"))
            if Decimal(here["total"]).quantize(Decimal("0.01")) != total:
                wrong.append(f"{id} comes to {here['total']}, and was ordered for {total}")
            if here["state"] not in STATES[order["status"]]:
                wrong.append(f"{id} is {order['status']} there and {here['state']} in Odoo")
            if here["status"] != order["status"] or here["delivered_by"] != order["delivered_by"]:
                wrong.append(f"{id} is noted as {here['status']}, {here['delivered_by']}")
            if here["partner"]["ref"] != order["retailer"]["retailer_code"]:
                wrong.append(f"{id} is of {order['retailer']['retailer_code']} and in Odoo of {here['partner']['ref']}")
            lines = sorted((codes[one["internal_product_id"]], Decimal(str(one["amount"])), Decimal(str(one["selling_price"])))
                           for one in order["order_details"])
            have = sorted((one["product"], Decimal(one["quantity"]), Decimal(one["price"])) for one in here["lines"] or [])
            if lines != have:
                wrong.append(f"{id} has the lines {have}, and was ordered as {lines}")
            if not row["acked"]:
                wrong.append(f"{id} was not acknowledged")
        wrong += [f"{id} is in Odoo, and nobody ordered it" for id in sold]
        return wrong

    def end(self):
        for hub in (self.hub, *self.others):
            hub.end()


@contextlib.contextmanager
def a_shop(env, folder, *switches, **settings):
    """Switches of the stand-in Cartona, as NAME=VALUE; settings of the connection."""
    with Cartona(folder, *(word for switch in switches for word in ("--switch", switch))) as cartona:
        shop = Shop(env, folder, cartona, **settings)
        try:
            yield cartona, shop
            shop.hub.stop()
        finally:
            shop.end()


class Suite:
    """Tests of one file, each on the servers it names: 'PASS GROUP.name/server', 'FAIL …: why' or 'SKIP …: why' on the output."""

    def __init__(self, group):
        self.group, self.tests = group, {}

    def test(self, name, *servers):
        def keep(body):
            self.tests[name] = (body, servers or ("StandIn19", *REAL))
            return body
        return keep

    def run(self, server, env, wanted):
        for name in wanted:
            with tempfile.TemporaryDirectory(prefix="dragoman-market-") as folder:
                try:
                    told = self.tests[name][0](env, pathlib.Path(folder))
                    if told is None:
                        print(f"SKIP {self.group}.{name}/{server}: what it needs is not up", flush=True)
                        continue
                    print(f"  {name}/{server} (seed {SEED}): {told}", file=sys.stderr, flush=True)
                    print(f"PASS {self.group}.{name}/{server}", flush=True)
                except Exception as error:  # noqa: BLE001 - any end of a test is told as its failure
                    traceback.print_exc(limit=4)
                    why = " ".join(str(error).split())[:4000]
                    print(f"FAIL {self.group}.{name}/{server}: seed {SEED}: {why}", flush=True)

    def main(self):
        patterns = sys.argv[1:]
        for server in ("StandIn19", *REAL):
            wanted = [n for n, (_, servers) in self.tests.items()
                      if server in servers and is_wanted(f"{self.group}.{n}/{server}", patterns)]
            if not wanted:
                continue
            if server == "StandIn19":
                with tempfile.TemporaryDirectory(prefix="dragoman-market-") as folder, StandIn(folder) as env:
                    self.run(server, env, wanted)
                continue
            path = os.environ.get(f"DRAGOMAN_TEST_{server.upper()}_ENV")
            if path:
                self.run(server, read_env(path), wanted)
            else:
                for name in wanted:
                    print(f"SKIP {self.group}.{name}/{server}: {server} is not up", flush=True)

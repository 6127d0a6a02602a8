"""What the group orders is made of: a stand-in Cartona, an Odoo with products and customers, and the program between them.

Nothing here measures by itself. The hub runs as a user runs it; what became of its orders is read from its own database,
whose times are of this machine's clock, and what Odoo was asked from Odoo's own log of requests.
"""
import contextlib
import http.client
import json
import pathlib
import random
import re
import sqlite3
import sys
import threading
import urllib.parse

from bench import common

sys.path.insert(0, str(common.ROOT / "tests" / "e2e"))

LINES = 3
PRODUCTS = 20
NEW = 0.3  # of the customers of a batch of orders; the others are found by their phone


class Cartona:
    """The stand-in Cartona, until the group's work ends. Its orders' ids are new every time: the Odoo is kept, and knows those
    of other runs."""

    def __init__(self, work, *arguments):
        ready = work.fresh() / "ready"
        seed = random.SystemRandom().randrange(1 << 40)
        self.process = work.start([common.program("sandbox-cartona"), "--port", "0", "--seed", seed, "--ready-file", ready, *arguments],
                                  stdin=None, stdout=-3, stderr=-3)
        common.wait_for(lambda: ready.exists() or self.process.poll() is not None, 60, "the stand-in Cartona")
        self.values = dict(line.split("=", 1) for line in ready.read_text().splitlines() if "=" in line)
        self.url = self.values["CARTONA_URL"]
        self.address = urllib.parse.urlparse(self.url).netloc

    def token(self, account):
        return self.values[f"CARTONA_TOKEN_{account}"]

    def control(self, path, body=None, method="POST"):
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=120)) as connection:
            connection.request(method, "/sandbox" + path, json.dumps(body or {}))
            answer = connection.getresponse()
            value = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"the stand-in Cartona refused {path}: {value}")
        return value

    def place(self, account, rows):
        return self.control("/orders", {"account": f"cartona-{account}", "orders": rows})["hashed_ids"]


class Shop:
    """The trading company in a real Odoo: goods (with deliveries, but nothing counted in stock, which two confirmations at
    once would fight for, unless `stored`) and customers that have a phone."""

    def __init__(self, odoo, seed, stored=False):
        self.odoo, self.chance, self.made = odoo, random.Random(seed), 0
        tag = f"{random.SystemRandom().randrange(1 << 32):08x}"
        self.tag = tag
        self.codes = [f"BENCH-{tag}-{n:02d}" for n in range(PRODUCTS)]
        ids = odoo.call("product.product", "create", vals_list=[
            {"name": f"Demo article {n}", "default_code": code, "type": "consu", "is_storable": stored, "list_price": 10} for n, code in enumerate(self.codes)])
        self.products = dict(zip(self.codes, ids))
        company = odoo.call("res.company", "search_read", domain=[], fields=["currency_id"], limit=1, order="id")[0]
        self.currency = company["currency_id"][1]

    def account_products(self):
        """For the stand-in's option --products."""
        return [{"internal_product_id": code, "name": f"Demo article {n}", "selling_price": 10} for n, code in enumerate(self.codes)]

    def count(self, code, quantity, quant=None):
        """Somebody counts so much of it in the first warehouse. The quant."""
        if quant is None:
            place = self.odoo.call("stock.warehouse", "search_read", domain=[], fields=["lot_stock_id"], limit=1, order="id")[0]["lot_stock_id"][0]
            [quant] = self.odoo.call("stock.quant", "create", context={"inventory_mode": True}, vals_list=[
                {"product_id": self.products[code], "location_id": place, "inventory_quantity": quantity}])
        else:
            self.odoo.call("stock.quant", "write", ids=[quant], vals={"inventory_quantity": quantity}, context={"inventory_mode": True})
        self.odoo.call("stock.quant", "action_apply_inventory", ids=[quant])
        return quant

    def orders(self, count):
        """Approved orders, each of a shop that has not ordered yet; seven in ten of these are customers in Odoo already."""
        phones = []
        for _ in range(count):
            self.made += 1
            phones.append(f"+20 11 {int(self.tag, 16) % 10**4:04d} {self.made:06d}")
        known = [phone for n, phone in enumerate(phones) if (n * 7) % 10 >= NEW * 10]
        if known:
            self.odoo.sql(
                "INSERT INTO res_partner (name, complete_name, phone, active, type, lang, partner_share, is_company, create_date, write_date,"
                " create_uid, write_uid, customer_rank, supplier_rank, autopost_bills, message_bounce, color) SELECT 'Demo shop ' || p,"
                " 'Demo shop ' || p, p, true, 'contact', 'en_US', true, true, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', 2, 2, 1, 0, 'ask', 0, 0"
                f" FROM unnest(ARRAY[{','.join(repr(p) for p in known)}]) p; "
                "UPDATE res_partner SET commercial_partner_id = id WHERE commercial_partner_id IS NULL")
        rows = []
        for phone in phones:
            lines = [{"internal_product_id": code, "amount": self.chance.randrange(1, 9), "selling_price": self.chance.randrange(100, 9999) / 100}
                     for code in self.chance.sample(self.codes, LINES)]
            rows.append({"status": "approved", "order_details": lines,
                         "retailer": {"retailer_name": f"Demo shop {phone}", "retailer_code": "R" + re.sub(r"\D", "", phone), "retailer_number": phone}})
        return rows


class Requests:
    """What Odoo was asked, from its own log."""

    LINE = re.compile(rb'"(?:GET|POST|HEAD|PUT) (\S+) HTTP/')

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.at = self.path.stat().st_size

    def since(self):
        """{path: how often} of the requests since the last time that it was asked."""
        counts = {}
        with open(self.path, "rb") as log:
            log.seek(self.at)
            data = log.read()
        end = data.rfind(b"\n") + 1
        self.at += end
        for found in self.LINE.finditer(data[:end]):
            path = found.group(1).decode(errors="replace")
            counts[path] = counts.get(path, 0) + 1
        return counts


class Hub:
    """The program with an Odoo connection `main` and a marketplace for each account of the stand-in."""

    def __init__(self, work, odoo, cartona, currency, main, accounts=1, threads=None, **settings):
        import crash_rig as rig
        folder = work.fresh()
        self.cartona, self.accounts = cartona, accounts
        self.tag = f"{random.SystemRandom().randrange(1 << 32):08x}"  # the Odoo knows what other runs called theirs
        self.hub = rig.Hub(folder, settings={"DRAGOMAN_JOBS_THREADS": str(threads)} if threads else None)
        self.hub.start()
        if not self.hub.ready():
            raise RuntimeError(self.hub.tail())
        common.wait_for(lambda: (self.hub.data / "token").exists(), 30, "the hub's token")
        secret = folder / "odoo-secret"
        secret.write_text(odoo["ODOO_API_KEY"])
        self.hub.ask("connection", "add", "main", "--kind", "odoo", "--url", odoo["ODOO_URL"], "--database", odoo["ODOO_DB"], "--login",
                     odoo["ODOO_USERNAME"], "--secret-file", str(secret), *main)
        options = {"poll_seconds": 86400, "currency": currency, "unit_factor": "one", **settings}
        words = [word for key, value in options.items() for word in ("--" + key.replace("_", "-"), str(value))]
        for number in range(1, accounts + 1):
            token = folder / f"token-{number}"
            token.write_text(cartona.token(number))
            self.hub.ask("connection", "add", self.name(number), "--kind", "cartona", "--url", cartona.url, "--odoo", "main",
                         "--secret-file", str(token), *words)
        # After them: what marketplaces need in Odoo is put there where there are any.
        self.hub.provision(odoo)
        self.token = self.hub.token()

    def name(self, account):
        return f"shop-{self.tag}-{account}"

    def rows(self, sql, *values):
        with contextlib.closing(sqlite3.connect(f"file:{self.hub.data / 'dragoman.db'}?mode=ro", uri=True, timeout=30)) as store:
            return store.execute(sql, values).fetchall()

    def pull(self, account=1):
        """Asks for a pull; the number of its job."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.hub.port, timeout=60)) as connection:
            connection.request("POST", f"/api/v1/connections/{self.name(account)}/market/pull", "{}",
                               {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
            answer = connection.getresponse()
            value = json.loads(answer.read())
        if answer.status != 202:
            raise RuntimeError(f"the pull is refused: {value}")
        return value["job"]

    def begun(self, job):
        return self.rows("SELECT started_us FROM job WHERE id = ?", job)[0][0] / 1e6

    # What is looked at again and again must cost nothing beside what is measured: each of these has its index.

    def quiet(self):
        """Nothing waits or runs: what came was dealt with, and the marketplace knows."""
        return not any(self.rows(f"SELECT 1 FROM job WHERE {some} LIMIT 1")
                       for some in ("state = 2", "state = 0 AND hold = 0", "state = 0 AND hold = 2", "state IN (1, 3) AND hold <> 1", "hold = 1"))

    ORDERS = ("FROM json_each(?) w CROSS JOIN connection c JOIN market_order o ON o.connection_id = c.id AND o.external_id = w.value "
              "WHERE c.kind = 'cartona'")

    def imported(self, ids):
        """{order: when its import was durable here}; those that are not in Odoo are left out."""
        return {order: at / 1e6 for order, at in self.rows(f"SELECT o.external_id, o.imported_us {self.ORDERS} AND o.imported_us IS NOT NULL",
                                                           json.dumps(ids))}

    def settle(self, ids, seconds):
        """Waits until all of these are in Odoo and acknowledged, and nothing is left to do."""
        def done():
            if not self.quiet():
                return False
            if self.rows("SELECT 1 FROM market_order WHERE state = 'held' LIMIT 1"):
                raise RuntimeError("orders are held")
            through = self.rows(f"SELECT count(*) {self.ORDERS} AND o.imported_us IS NOT NULL AND o.ack = 'sent'", json.dumps(ids))[0][0]
            return through == len(ids)
        try:
            common.wait_for(done, seconds, f"{len(ids)} orders", every=0.2)
        except RuntimeError as error:
            held = self.rows("SELECT state, hold_code, hold_message, count(*) FROM market_order GROUP BY 1, 2 LIMIT 5")
            dead = self.rows("SELECT l.kind, j.state, j.error_code, j.error_message, count(*) FROM job j JOIN job_lane l ON l.id = j.lane_id "
                             "WHERE j.state < 4 OR j.state = 6 GROUP BY 1, 2, 3 LIMIT 5")
            raise RuntimeError(f"{error}: {held} {dead} {self.hub.tail(600)}") from None

    def stop(self):
        self.hub.end()


class Ceiling:
    """The best that bare calls reach: a server action that finds or makes the customers of its orders in one search and one
    create, creates the orders in one create and confirms them in one call; so many callers at once as Odoo has workers."""

    CODE = """
data = env.context['bench']
into = env(context={'lang': 'en_US'}, su=True)
partners = into['res.partner']
known = {}
for partner in partners.search([('phone', 'in', [order['phone'] for order in data])]):
    known[partner.phone] = partner.id
missing = []
for order in data:
    if order['phone'] not in known:
        missing.append({'name': order['name'], 'phone': order['phone'], 'ref': order['code']})
for partner in partners.create(missing):
    known[partner.phone] = partner.id
values = []
for order in data:
    values.append({'partner_id': known[order['phone']], 'client_order_ref': order['ref'], 'order_line': [(0, 0, {
        'product_id': line[0], 'product_uom_qty': line[1], 'price_unit': line[2], 'discount': 0, 'tax_ids': [(6, 0, [])]}) for line in order['lines']]})
orders = into['sale.order'].create(values)
orders.action_confirm()
action = {'type': 'ir.actions.act_window_close', 'infos': {'orders': len(orders)}}
"""

    def __init__(self, odoo, shop):
        self.odoo, self.shop, self.count = odoo, shop, 0
        model = odoo.call("ir.model", "search", domain=[["model", "=", "sale.order"]])[0]
        self.action = odoo.call("ir.actions.server", "create", vals_list=[
            {"name": "bench: orders", "model_id": model, "state": "code", "code": self.CODE}])[0]

    def data(self, rows):
        out = []
        for row in rows:
            self.count += 1
            out.append({"ref": f"bare-{self.count}", "name": row["retailer"]["retailer_name"], "phone": row["retailer"]["retailer_number"],
                        "code": row["retailer"]["retailer_code"],
                        "lines": [[self.shop.products[line["internal_product_id"]], line["amount"], line["selling_price"]] for line in row["order_details"]]})
        return out

    def run(self, rows, batch=50):
        """Confirms these orders; nothing is kept in between."""
        data = self.data(rows)
        batches = [data[at:at + batch] for at in range(0, len(data), batch)]
        lock, failed = threading.Lock(), []

        def caller():
            while not failed:
                with lock:
                    if not batches:
                        return
                    mine = batches.pop(0)
                try:
                    self.odoo.call("ir.actions.server", "run", ids=[self.action], context={"bench": mine})
                except (RuntimeError, OSError) as error:
                    failed.append(str(error))
        threads = [threading.Thread(target=caller) for _ in range(self.odoo.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise RuntimeError(f"a bare call failed: {failed[0]}")

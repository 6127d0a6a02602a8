#!/usr/bin/env python3
"""What `./dev run` sets up for a newcomer: a marketplace whose orders flow into the Odoo that runs beside it.

    tools/trial.py --hub PROGRAM --data FOLDER --cartona READY-FILE

Once the hub that runs on FOLDER has its connection `main` to the Odoo of ODOO_URL, ODOO_DB, ODOO_USERNAME, ODOO_PASSWORD:
products of the stand-in Cartona that this Odoo does not know are made there, the procedures are provisioned with the
administrator's login, which is not kept, and the connection `shop1` is added. What is there already stays as it is. For trials
only: it makes products and stock.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

SHOP = "shop1"
WAIT_SECONDS = 120


def say(text):
    print(text, file=sys.stderr, flush=True)


class Odoo:
    def __init__(self):
        self.url, self.db = os.environ["ODOO_URL"], os.environ["ODOO_DB"]
        self.login, self.password = os.environ["ODOO_USERNAME"], os.environ["ODOO_PASSWORD"]
        self.uid = self.ask("common", "authenticate", self.db, self.login, self.password, {})
        self.series = int(self.ask("common", "version")["server_version_info"][0])

    def ask(self, service, method, *args):
        body = {"jsonrpc": "2.0", "method": "call", "id": 1, "params": {"service": service, "method": method, "args": args}}
        request = urllib.request.Request(self.url + "/jsonrpc", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            said = json.loads(answer.read())
        if "error" in said:
            raise RuntimeError(said["error"]["data"]["message"])
        return said.get("result")

    def call(self, model, method, *args, **kwargs):
        return self.ask("object", "execute_kw", self.db, self.uid, self.password, model, method, args, kwargs)

    def make_products(self, rows):
        """Those of the marketplace's products that no product here has the code of, with their stock. How many."""
        codes = [row["internal_product_id"] for row in rows]
        known = {one["default_code"] for one in self.call(
            "product.product", "search_read", [["default_code", "in", codes]], ["default_code"], context={"active_test": False})}
        missing = [row for row in rows if row["internal_product_id"] not in known]
        if not missing:
            return 0
        kind = {"type": "product"} if self.series < 18 else {"type": "consu", "is_storable": True}
        made = self.call("product.product", "create", [
            {"name": row["name"], "default_code": row["internal_product_id"], "barcode": row["barcode"] or False,
             "list_price": float(row["selling_price"]), **kind} for row in missing])
        shelf = self.call("stock.warehouse", "search_read", [], ["lot_stock_id"], limit=1, order="id")[0]["lot_stock_id"][0]
        quants = []
        for product, row in zip(made, missing):
            quants.append(self.call("stock.quant", "create", {
                "product_id": product, "location_id": shelf, "inventory_quantity": row["available_stock_quantity"]},
                context={"inventory_mode": True}))
        if self.series >= 15:  # before, a count is applied at once
            self.call("stock.quant", "action_apply_inventory", quants)
        return len(made)


class Hub:
    def __init__(self, program, data):
        self.program, self.data = program, data

    def ask(self, *words, secret=None):
        """The answer; None if the hub did not take it. `secret` goes through a file that only we can read."""
        with tempfile.NamedTemporaryFile("w", prefix="dragoman-trial-") as file:
            if secret is not None:
                file.write(secret[1])
                file.flush()
                words += (secret[0], file.name)
            environment = {k: v for k, v in os.environ.items() if not k.startswith("ODOO_")}
            done = subprocess.run([self.program, *words, "--data-dir", self.data, "--json"], env=environment,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.said = done.stderr.strip()
        return json.loads(done.stdout) if done.returncode == 0 else None

    def must(self, *words, secret=None):
        answer = self.ask(*words, secret=secret)
        if answer is None:
            raise RuntimeError(f"dragoman {' '.join(words[:3])}: {self.said}")
        return answer

    def wait(self):
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            found = self.ask("connection", "list")
            if found and any(one["name"] == "main" for one in found["connections"]):
                return found["connections"]
            time.sleep(0.3)
        raise RuntimeError(f"the hub has no connection `main`: {self.said}")


def control(address, method, path, body=None):
    request = urllib.request.Request(address + path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hub", required=True, help="the program")
    parser.add_argument("--data", required=True, help="its data folder")
    parser.add_argument("--cartona", required=True, help="the ready file of the stand-in Cartona")
    options = parser.parse_args()
    cartona = dict(line.split("=", 1) for line in pathlib.Path(options.cartona).read_text().splitlines() if "=" in line)
    hub = Hub(options.hub, options.data)
    there = {one["name"] for one in hub.wait()}
    odoo = Odoo()
    made = odoo.make_products(control(cartona["CARTONA_CONTROL"], "GET", "/products")["products"])
    if made:
        say(f"trial: made {made} products of the stand-in Cartona in Odoo")
    hub.must("provision", "apply", "main", "--market", "--admin-login", odoo.login, secret=("--admin-password-file", odoo.password))
    url = ("--url", cartona["CARTONA_URL"])
    if SHOP in there:
        hub.must("connection", "update", SHOP, *url, "--unit-factor", "one")
    else:
        currency = odoo.call("res.company", "search_read", [], ["currency_id"], limit=1, order="id")[0]["currency_id"][1]
        hub.must("connection", "add", SHOP, "--kind", "cartona", *url, "--odoo", "main", "--currency", currency, "--unit-factor", "one", "--poll-seconds", "2",
                 "--hold-retry-seconds", "10", secret=("--secret-file", cartona["CARTONA_TOKEN"]))
        # One that waits for somebody, to see how that looks.
        control(cartona["CARTONA_CONTROL"], "POST", "/orders", {"orders": [{
            "status": "approved", "retailer": {"retailer_name": "Demo Market", "retailer_code": "DEMO-1"},
            "order_details": [{"supplier_product_id": "79999", "internal_product_id": "DEMO-NEW", "product_name": "Demo novelty",
                               "amount": 2, "selling_price": 12.5}]}]})
    say(f"""
Orders of a stand-in Cartona flow into this Odoo now, through the connection `{SHOP}`. Where to look, in another terminal:
  export DRAGOMAN_DATA_DIR={options.data}
  {options.hub} market status                  how they stand
  {options.hub} market orders                  one by one;  market order {SHOP} ID: the story of one
  {options.hub} market holds                   what waits for somebody: an order of a product that Odoo does not know.
      Make a product with the code DEMO-NEW in Odoo, or say which one it is: market link {SHOP} 79999 ID-IN-ODOO
""")
    if os.environ.get("ODOO_SANDBOX"):
        say(f"This Odoo is a stand-in: it answers programs at {odoo.url} ({odoo.login} / {odoo.password}), and has no pages.\n")
    else:
        say(f"In Odoo: {odoo.url} ({odoo.login} / {odoo.password}), Sales, Orders.\n")


try:
    main()
except (RuntimeError, OSError, KeyError) as error:
    say(f"trial: the marketplace could not be set up: {error}")
    sys.exit(1)

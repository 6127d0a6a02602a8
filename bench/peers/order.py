#!/usr/bin/env python3
"""What a script between a marketplace and Odoo does with a well-known library, one order after the other: asks for the
marketplace's list, finds or creates the customer by its phone, finds the products by their codes, creates the order, confirms
it. It stays logged in. For each line that it reads it does one round, and answers with a line of JSON.

order.py URL-OF-THE-MARKETPLACE TOKEN   the server is in ODOO_URL, ODOO_DB, ODOO_USERNAME, ODOO_PASSWORD
"""
import json
import os
import sys
import time
import urllib.parse
import urllib.request

import odoorpc


def main():
    url, token = sys.argv[1].rstrip("/"), sys.argv[2]
    server = urllib.parse.urlsplit(os.environ["ODOO_URL"])
    odoo = odoorpc.ODOO(server.hostname, port=server.port, timeout=600)
    odoo.login(os.environ["ODOO_DB"], os.environ["ODOO_USERNAME"], os.environ["ODOO_PASSWORD"])
    partners, products, orders = odoo.env["res.partner"], odoo.env["product.product"], odoo.env["sale.order"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def market(path, body=None):
        request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode() if body else None,
                                         {"AuthorizationToken": token, "Content-Type": "application/json"})
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        began = time.time()
        confirmed = []
        for order in market("order/pull-orders?page=1&per_page=100"):
            shop = order["retailer"]
            found = partners.search([("phone", "=", shop["retailer_number"])], limit=1)
            partner = found[0] if found else partners.create(
                {"name": shop["retailer_name"], "phone": shop["retailer_number"], "ref": shop["retailer_code"]})
            lines = []
            for line in order["order_details"]:
                product = products.search([("default_code", "=", line["internal_product_id"])], limit=1)[0]
                lines.append((0, 0, {"product_id": product, "product_uom_qty": line["amount"], "price_unit": line["selling_price"],
                                     "tax_ids": [(6, 0, [])]}))
            made = orders.create({"partner_id": partner, "client_order_ref": order["receipt_id"], "order_line": lines})
            odoo.execute_kw("sale.order", "action_confirm", [[made]], {})
            confirmed.append({"order": order["hashed_id"], "at": time.time()})
            market("order/update-order-status/" + order["hashed_id"], {"hashed_id": order["hashed_id"], "status": "synced"})
        print(json.dumps({"began": began, "confirmed": confirmed}), flush=True)


main()

#!/usr/bin/env python3
"""Records the schema of the stand-in from a real Odoo: the answer of fields_get, trimmed.

usage: record.py ENVFILE OUT.json

ENVFILE holds ODOO_URL, ODOO_DB, ODOO_USERNAME and ODOO_PASSWORD of a server with demo data and the
modules sale_management, stock, mrp, sale_loyalty (14: sale_coupon), delivery, payment_demo
(14: payment_test), base_automation and account. Kept are the stored fields whose relations stay inside
the list of models below, fields read through another record (product.product's of its template), and
the few computed ones that the stand-in computes. What fields_get says of a kept field is kept as it
was said, without the help texts. What fields_get does not say (orders, constraints) is in models.json.
"""
import http.client
import json
import re
import sys
import urllib.parse

MODELS = """
res.company res.currency res.country res.country.state res.lang res.partner res.partner.category
res.partner.bank res.users res.groups
ir.model ir.model.access ir.model.data
product.category product.template product.product product.attribute product.attribute.value
product.template.attribute.line product.template.attribute.value product.pricelist product.pricelist.item
product.tag uom.uom uom.category
sale.order sale.order.line crm.team crm.tag utm.source
stock.warehouse stock.location stock.picking.type stock.picking stock.move stock.move.line stock.lot
stock.production.lot stock.quant stock.route stock.location.route procurement.group stock.reference
account.account account.journal account.tax account.tax.group account.fiscal.position
account.payment.term account.move account.move.line account.payment
loyalty.program loyalty.rule loyalty.reward coupon.program coupon.rule coupon.reward
delivery.carrier payment.provider payment.acquirer payment.method payment.transaction
""".split()

DROP = re.compile(r"^(message_|activity_|my_activity|website_message|rating_|has_message|avatar_|image_(256|512|1024)$"
                  r"|calendar_|meeting_|opportunity_|channel_|sms_|mail_|email_normalized_|im_status|device_|totp_|oauth_"
                  r"|partner_latitude|partner_longitude|signup_|l10n_|peppol|ubl_|xml_|duplicate|invoice_edi|access_|properties"
                  r"|.*_properties(_definition)?$|tax_totals|.*_tours?_|tour_|karma|badge|gold_|silver_|bronze_|rank_|next_rank"
                  r"|resource_|employee_|hr_|leave_|barcode_nomen|snailmail|font$|layout_|external_report|web_app|report_|primary_color"
                  r"|secondary_color|account_.*_(mode|state|step)|onboarding|sale_onboarding|payment_onboarding|.*_onboarding.*"
                  r"|fiscalyear|.*_lock_date|.*_journal_id$|anglo_saxon|.*_cash_rounding|rounding_|vehicle|lang_)")
COMPUTED = {"display_name", "qty_available", "virtual_available", "complete_name"}
KEEP = {"account.move.journal_id", "account.move.line.journal_id", "account.payment.journal_id", "access_token"}
ATTRIBUTES_DROPPED = {"help", "context", "domain", "depends", "name", "states"}


def rpc(host, port, service, method, *args):
    connection = http.client.HTTPConnection(host, port, timeout=120)
    connection.request("POST", "/jsonrpc", json.dumps(
        {"jsonrpc": "2.0", "method": "call", "id": 1,
         "params": {"service": service, "method": method, "args": args}}), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    if "error" in answer:
        raise RuntimeError(answer["error"]["data"]["message"])
    return answer.get("result")


def write(path, version, result):
    """One field a line. What most fields of a type say is said once, in "types"; null takes a key away."""
    votes = {}
    for description in result.values():
        for said in description["fields"].values():
            type_votes = votes.setdefault(said["type"], [0, {}])
            type_votes[0] += 1
            for key, value in said.items():
                if key not in ("string", "relation", "relation_field", "selection", "related", "type"):
                    texts = type_votes[1].setdefault(key, {})
                    text = json.dumps(value)
                    texts[text] = texts.get(text, 0) + 1
    types = {}
    for name, (count, keys) in sorted(votes.items()):
        types[name] = {}
        for key, texts in sorted(keys.items()):
            text, most = max(texts.items(), key=lambda item: item[1])
            if most * 2 > count:
                types[name][key] = json.loads(text)
    blocks = []
    for model, description in result.items():
        head = {key: value for key, value in description.items() if key != "fields"}
        lines = []
        for name, said in description["fields"].items():
            common = types[said["type"]]
            own = {"type": said["type"], "string": said["string"]}
            own.update({key: value for key, value in said.items() if common.get(key, own) != value})
            own.update({key: None for key in common if key not in said})
            lines.append(f"{json.dumps(name)}: {json.dumps(own)}")
        blocks.append(f"{json.dumps(model)}: {json.dumps(head)[:-1]}, \"fields\": {{\n" + ",\n".join(lines) + "}}")
    with open(path, "w") as out:
        out.write('{"server_version": %s, "types": {\n' % json.dumps(version))
        out.write(",\n".join(f"{json.dumps(name)}: {json.dumps(said)}" for name, said in types.items()))
        out.write('},\n"models": {\n' + ",\n".join(blocks) + "\n}}\n")


def main():
    env = dict(line.strip().split("=", 1) for line in open(sys.argv[1]) if "=" in line)
    url = urllib.parse.urlparse(env["ODOO_URL"])
    version = rpc(url.hostname, url.port, "common", "version")["server_version"]
    db, password = env["ODOO_DB"], env["ODOO_PASSWORD"]
    uid = rpc(url.hostname, url.port, "common", "authenticate", db, env["ODOO_USERNAME"], password, {})

    def call(model, method, *args, **kwargs):
        return rpc(url.hostname, url.port, "object", "execute_kw", db, uid, password, model, method, args, kwargs)

    has_order = "order" in call("ir.model", "fields_get")
    known = {row["model"]: row for row in call("ir.model", "search_read", [["model", "in", MODELS]],
                                               ["model", "name"] + (["order"] if has_order else []))}
    result = {}
    for model in MODELS:
        if model not in known:
            continue
        fields = {}
        answer = call(model, "fields_get")
        for name, said in answer.items():
            full = f"{model}.{name}"
            if full not in KEEP and DROP.match(name):
                continue
            relation = said.get("relation")
            if relation and relation not in known:
                continue
            if not said.get("store") and name not in COMPUTED and name != "id":
                # res.users reads its partner's fields, product.product its template's.
                path = said.get("related", "")
                through = {"product.product": "product_tmpl_id.", "res.users": "partner_id."}.get(model)
                path = path if isinstance(path, str) else ".".join(path)
                if not through or not path.startswith(through) or path.count(".") != 1:
                    continue
            fields[name] = {key: value for key, value in said.items() if key not in ATTRIBUTES_DROPPED}
        result[model] = {"name": known[model]["name"], **({"order": known[model]["order"]} if has_order else {}),
                         "fields": fields}
    # A one2many whose other end was dropped, a related field whose target was: out.
    for model, description in result.items():
        for name, said in list(description["fields"].items()):
            if not said.get("store") and said.get("related"):
                path = said["related"] if isinstance(said["related"], str) else ".".join(said["related"])
                link, _, target = path.partition(".")
                comodel = description["fields"].get(link, {}).get("relation")
                if target and not result.get(comodel, {"fields": {}})["fields"].get(target, {}).get("store"):
                    del description["fields"][name]
                    continue
            inverse = said.get("relation_field")
            if said["type"] == "one2many" and inverse not in result[said["relation"]]["fields"]:
                del description["fields"][name]
    write(sys.argv[2], version, result)
    for model, description in result.items():
        print(model, len(description["fields"]))


if __name__ == "__main__":
    main()

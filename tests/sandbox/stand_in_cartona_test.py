#!/usr/bin/env python3
"""The stand-in Cartona: its API as contract/cartona says, each of its switches in each position, its control interface.

Prints 'PASS name' or 'FAIL name: why' per test. The program is build/asan/sandbox/sandbox-cartona or
DRAGOMAN_SANDBOX_CARTONA. Arguments: only tests whose name holds one of them. DRAGOMAN_SEED is the seed of what is generated.
"""
import collections
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("DRAGOMAN_SANDBOX_CARTONA") or ROOT / "build" / "asan" / "sandbox" / "sandbox-cartona")
CONTRACT = ROOT / "contract" / "cartona"
SEED = int(os.environ.get("DRAGOMAN_SEED") or 20261120)
TOKEN = "cartona-token-1"
NOON = "2026-11-20T12:00:00Z"
Answer = collections.namedtuple("Answer", "status headers data body")


class Cartona:
    def __init__(self, folder, *arguments):
        self.ready = pathlib.Path(folder) / f"cartona{time.monotonic_ns()}.env"
        self.process = subprocess.Popen([str(PROGRAM), "--ready-file", str(self.ready), "--seed", str(SEED), *arguments],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.first_line = self.process.stdout.readline()
        while not self.ready.exists() and self.process.poll() is None:
            time.sleep(0.01)
        if not self.ready.exists():
            raise AssertionError("it did not start: " + self.process.stderr.read())
        self.env = dict(line.strip().split("=", 1) for line in self.ready.open())
        url = urllib.parse.urlparse(self.env["CARTONA_URL"])
        self.port, self.prefix = url.port, url.path
        self.tried = set()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0, "it did not end cleanly"

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            data = response.read()
            try:
                value = json.loads(data)
            except ValueError:
                value = None
            return Answer(response.status, response.headers, data, value)
        finally:
            connection.close()

    def api(self, method, path, body=None, token=TOKEN):
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        return self.raw(method, self.prefix + path, text, {"AuthorizationToken": token, "Content-Type": "application/json"} if token else {})

    def control(self, path, body=None, method="POST"):
        answer = self.raw(method, "/sandbox" + path, json.dumps(body if body is not None else {}))
        assert answer.status == 200, answer.body
        return answer.body

    def refused_control(self, path, body=None, method="POST"):
        answer = self.raw(method, "/sandbox" + path, json.dumps(body if body is not None else {}))
        assert answer.status == 400 and answer.body["error"], (answer.status, answer.data)
        return answer.body["error"]

    def set(self, **switches):
        self.control("/switches", switches)
        self.tried |= {(name, str(value)) for name, value in switches.items()}

    def order(self, **given):
        given.setdefault("order_details", [{"internal_product_id": "DEMO-001", "amount": 2, "selling_price": 10}])
        given.setdefault("retailer", {"retailer_name": "Demo Market", "retailer_code": "R-1"})
        account = given.pop("account", None)
        return self.control("/orders", {"orders": [given], **({"account": account} if account else {})})["hashed_ids"][0]

    def generate(self, count, **more):
        return self.control("/orders", {"count": count, "seed": SEED, **more})["hashed_ids"]

    def pull(self, token=TOKEN, **query):
        answer = self.api("GET", "order/pull-orders?" + urllib.parse.urlencode(query), token=token)
        assert answer.status == 200 and isinstance(answer.body, list), (answer.status, answer.data[:300])
        return answer.body

    def ids(self, **query):
        return [row["hashed_id"] for row in self.pull(**query)]

    def walk(self, per_page, between=None, **query):
        """The ids of each page, up to a page that is not full."""
        pages = []
        while not pages or len(pages[-1]) == per_page:
            pages.append(self.ids(page=len(pages) + 1, per_page=per_page, **query))
            if between:
                between(pages[-1])
        return pages

    def state(self, order):
        return self.control("/orders", {"hashed_id": order}, "GET")["orders"][0]

    def status_of(self, order):
        return self.state(order)["order"]["status"]

    def send(self, order, status, **more):
        return self.api("POST", "order/update-order-status/" + order, {"hashed_id": order, "status": status, **more})

    def ack(self, *orders):
        for order in orders:
            assert self.send(order, "synced").status == 200

    def act(self, order, do, **more):
        return self.control("/act", {"hashed_id": order, "do": do, **more})["orders"][0]

    def product(self, code):
        rows = self.control("/products", {"internal_product_id": code}, "GET")["products"]
        assert len(rows) == 1, rows
        return rows[0]

    def listed(self, code):
        rows = self.api("GET", "supplier-product?internal_product_id=" + urllib.parse.quote(code)).body
        assert len(rows) == 1, rows
        return rows[0]

    def update(self, *rows):
        return self.api("POST", "supplier-product/bulk-update", list(rows))

    def fault(self, kind, match=None, **action):
        self.control("/faults", {"match": match or {}, "action": {"kind": kind, **action}})

    def freeze(self, at=NOON):
        self.control("/clock", {"freeze": at})

    def advance(self, seconds):
        self.control("/clock", {"advance_seconds": seconds})


# ---------------------------------------------------------------- a small JSON Schema

def violation(schema, value, at="$"):
    """Why `value` is not as `schema` says (of the parts that contract/cartona uses), or None."""
    kinds = schema.get("type")
    if kinds:
        names = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
        def fits(kind):
            if kind == "integer":
                return isinstance(value, int) and not isinstance(value, bool)
            if kind == "number":
                return isinstance(value, (int, float)) and not isinstance(value, bool)
            return isinstance(value, names[kind])
        if not any(fits(kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
            return f"{at} is no {kinds}: {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{at} is none of the known words: {value!r}"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value, re.S):
        return f"{at} does not match: {value!r}"
    if "anyOf" in schema and all(violation(each, value, at) for each in schema["anyOf"]):
        return f"{at} is none of the forms: {value!r}"
    if isinstance(value, dict):
        for key in schema.get("required", ()):
            if key not in value:
                return f"{at} lacks {key}"
        properties = schema.get("properties", {})
        for key, each in value.items():
            if key in properties:
                if why := violation(properties[key], each, f"{at}.{key}"):
                    return why
            elif schema.get("additionalProperties") is False:
                return f"{at} has an unknown {key}"
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            return f"{at} is empty"
        if "items" in schema:
            for i, each in enumerate(value):
                if why := violation(schema["items"], each, f"{at}[{i}]"):
                    return why
    return None


def schema(name):
    return json.loads((CONTRACT / "schemas" / f"{name}.json").read_text())


def expect_schema(name, value):
    why = violation(schema(name), value)
    assert why is None, why


def cases(name):
    return json.loads((CONTRACT / f"{name}.json").read_text())


def contains(part, whole):
    """Whether every key of `part` is in `whole` with that value."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and contains(value, whole[key]) for key, value in part.items())
    return part == whole and isinstance(part, bool) == isinstance(whole, bool)


# ---------------------------------------------------------------- contract

def contract_orders_are_pulled_as_written(c):
    for case in cases("orders"):
        order = case["order"]
        c.control("/reset")
        given = dict(order)
        raw = {key: given.pop(key) for key in ("future_field",) if key in given}
        if not given["hashed_id"]:
            raw["hashed_id"] = given.pop("hashed_id")
        if any(isinstance(line["selling_price"], str) or "future_flag" in line or isinstance(line["amount"], float) for line in order["order_details"]):
            raw["order_details"] = given.pop("order_details")
        raw.update({key: given.pop(key) for key in list(given) if isinstance(given[key], str) and key in (
            "total_price", "cartona_credit", "installment_cost", "wallet_top_up", "wallet_topup")})
        c.control("/products", {"products": [], "replace": True})
        c.set(delivered_by="cartona_only" if "delivered_by" not in order else "always")
        c.set(receipt_id="text" if "receipt_id" in order else "absent", created_at="utc" if "created_at" in order else "absent")
        if "wallet_topup" in given:
            c.set(wallet_key="wallet_topup")
            given["wallet_top_up"] = given.pop("wallet_topup")
        c.order(**given, raw={**raw, **({"total_price": order["total_price"]} if "order_details" in raw else {})})
        row = c.pull()[0]
        want = {key: value for key, value in order.items() if key not in ("retailer", "created_at")}
        assert contains(want, row), (case["id"], want, row)
        for key, value in order["retailer"].items():
            assert (row["retailer"].get(key) or "") == (value or ""), (case["id"], key, row["retailer"])
        if "reads" in case:
            expect_schema("order", row)


def contract_requests_do_what_they_say(c):
    for case in cases("requests"):
        c.control("/reset")
        given, request = case["given"], case["request"]
        if given.get("switches"):
            c.set(**given["switches"])
        order = c.order(**given["order"]) if "order" in given else ""
        body = json.loads(json.dumps(request["body"]).replace("${id}", order))
        if "schema" in request:
            expect_schema(request["schema"], body)
        if order:
            assert order in c.ids()
        answer = c.api(request["method"], request["path"].replace("${id}", order), body)
        assert (answer.status == 200) == (case["outcome"] == "accepted"), (case["id"], answer.status, answer.data)
        if "after" in case:
            row = c.state(order)["order"]
            assert contains(case["after"], row), (case["id"], row)
        if "pulled_after" in case:
            assert (order in c.ids()) == case["pulled_after"], case["id"]
        if "product_after" in case:
            want = case["product_after"]
            row = c.api("GET", "supplier-product?supplier_product_id=" + want["supplier_product_id"]).body[0]
            assert contains(want, row), (case["id"], row)


def contract_answers_are_shaped_as_said(c):
    meanings = {"done", "page", "refused", "not_there", "maybe_auth", "later", "too_large", "in_doubt"}
    for case in cases("answers"):
        assert case["means"] in meanings and case["to"] in ("write", "pull"), case["id"]
        c.control("/faults", method="DELETE")
        headers = case.get("headers", {})
        if list(headers) == ["Retry-After"] and headers["Retry-After"].isdigit():
            c.fault("replace", status=case["status"], body=case["body"], content_type=case["content_type"],
                    retry_after=int(headers["Retry-After"]))
        else:
            c.fault("replace", status=case["status"], body=case["body"], content_type=case["content_type"])
        answer = c.api("GET", "order/pull-orders")
        assert answer.status == case["status"] and answer.data == (b"" if case["status"] == 204 else case["body"].encode()), case["id"]


def generated_orders_and_products_fit_the_schemas(c):
    c.generate(300, mix={"unknown_product": 0.1, "credit": 0.3, "wallet": 0.3, "installment": 0.3})
    for page in (1, 2, 3):
        expect_schema("pulled_orders", c.pull(page=page, per_page=100))
    expect_schema("listed_products", c.api("GET", "supplier-product?per_page=100").body)
    assert len(c.api("GET", "supplier-product?per_page=100").body) == 60


# ---------------------------------------------------------------- switches: transport and errors

def switch_bad_token(c):
    for status in (400, 401, 403):
        c.set(bad_token=status)
        for token in (None, "wrong", "Bearer " + TOKEN, TOKEN.upper()):
            assert c.api("GET", "order/pull-orders", token=token).status == status
        answer = c.raw("GET", c.prefix + "order/pull-orders", headers={"Authorization": TOKEN})
        assert answer.status == status
        assert c.api("GET", "order/pull-orders").status == 200


def switch_error_body(c):
    shapes = {"object": lambda a: set(a.body) == {"error", "details"}, "errors": lambda a: list(a.body) == ["errors"],
              "text": lambda a: a.body is None and a.data and a.headers["Content-Type"].startswith("text/plain"),
              "html": lambda a: b"<html>" in a.data and a.headers["Content-Type"].startswith("text/html"),
              "empty": lambda a: a.data == b""}
    for word, fits in shapes.items():
        c.set(error_body=word)
        assert fits(c.send("nobody", "approved")), word
        assert fits(c.api("GET", "order/pull-orders", token="wrong")), word


def switch_refused_status(c):
    order = c.order(status="delivered")
    for status in (400, 409, 422):
        c.set(refused_status=status)
        assert c.send(order, "approved").status == status


def switch_unknown_order(c):
    for status in (404, 400):
        c.set(unknown_order=status)
        assert c.send("nobody", "approved").status == status


def switch_success_status(c):
    order = c.order()
    for status in (200, 201, 204):
        c.set(success_status=status)
        answer = c.send(order, "approved")
        assert answer.status == status and (answer.data == b"") == (status == 204), answer


def switch_success_body(c):
    order = c.order()
    for word, want in {"object": b'{"message":"success"}', "empty_object": b"{}", "text": b"OK", "empty": b""}.items():
        c.set(success_body=word)
        assert c.send(order, "approved").data == want
    c.set(success_body="array")
    assert c.send(order, "approved").body == [{"hashed_id": order, "status": "approved"}]


def switch_paths(c):
    c.set(paths="current")
    old = ["orders/pull-orders", "base-product"]
    assert [c.api("GET", path).status for path in old] == [404, 404]
    c.set(paths="all")
    assert [c.api("GET", path).status for path in old] == [200, 200]
    order = c.order()
    assert c.api("POST", "orders/update-order-status/" + order, {"hashed_id": order, "status": "approved"}).status == 200
    assert c.api("POST", "base-product/bulk-update", [{"internal_product_id": "DEMO-001", "selling_price": 3}]).status == 200
    assert c.api("POST", "base-product/bulk-update-stock", [{"base_product_id": "8001", "available_stock_quantity": 48}]).status == 200
    assert c.product("DEMO-001")["selling_price"] == 3 and c.product("DEMO-002")["available_stock_quantity"] == 2


def switch_requests_per_minute_and_retry_after(c):
    c.freeze("2026-11-20T12:00:50Z")
    c.set(requests_per_minute=2, retry_after="seconds")
    assert [c.api("GET", "order/pull-orders").status for _ in range(3)] == [200, 200, 429]
    assert c.api("GET", "order/pull-orders").headers["Retry-After"] == "10"
    c.set(retry_after="date")
    assert c.api("GET", "order/pull-orders").headers["Retry-After"] == "Fri, 20 Nov 2026 12:01:00 GMT"
    c.set(retry_after="none")
    answer = c.api("GET", "order/pull-orders")
    assert answer.status == 429 and answer.headers["Retry-After"] is None
    c.advance(10)
    assert c.api("GET", "order/pull-orders").status == 200
    c.set(requests_per_minute=0)
    assert [c.api("GET", "order/pull-orders").status for _ in range(5)] == [200] * 5


# ---------------------------------------------------------------- switches: pages and ranges

def switch_walk(c):
    orders = c.generate(30)
    c.set(walk="live")
    seen = [order for page in c.walk(10, lambda page: c.ack(*page)) for order in page]
    assert len(seen) == 20 and len(set(seen)) == 20, "acknowledging shifted a page away"
    assert set(c.ids(per_page=100)) == set(orders) - set(seen)
    c.control("/reset")
    orders = c.generate(30)
    c.set(walk="stable")
    seen = [order for page in c.walk(10, lambda page: c.ack(*page)) for order in page]
    assert sorted(seen) == sorted(orders)
    assert c.ids(per_page=100) == []


def switch_paging_end(c):
    orders = c.generate(20)
    c.set(paging_end="short")
    assert [len(c.ids(page=n, per_page=10)) for n in (1, 2, 3, 9)] == [10, 10, 0, 0]
    c.set(paging_end="repeat")
    assert c.ids(page=3, per_page=10) == c.ids(page=2, per_page=10) != c.ids(page=1, per_page=10)
    assert c.api("GET", "supplier-product?per_page=40&page=5").body == c.api("GET", "supplier-product?per_page=40&page=2").body
    c.set(paging_end="error")
    assert c.api("GET", "order/pull-orders?page=3&per_page=10").status == 404
    assert c.api("GET", "order/pull-orders?page=2&per_page=10").status == 200
    assert c.api("GET", "supplier-product?per_page=40&page=3").status == 404
    c.set(paging_end="sparse")
    c.ack(*c.ids(page=1, per_page=10)[:7])
    assert [len(c.ids(page=n, per_page=10)) for n in (1, 2, 3)] == [3, 10, 0]
    c.ack(*c.ids(page=1, per_page=10))
    assert [len(c.ids(page=n, per_page=10)) for n in (1, 2)] == [10, 0], "no empty page before the end"
    assert len(orders) == 20


def switch_order_sort(c):
    c.freeze()
    orders = []
    for _ in range(3):
        orders.append(c.order())
        c.advance(60)
    c.act(orders[1], "lines", lines=[{"id": c.state(orders[1])["order"]["order_details"][0]["id"], "amount": 5}])
    for word, want in {"newest": [2, 1, 0], "oldest": [0, 1, 2], "changed": [1, 2, 0]}.items():
        c.set(order_sort=word)
        assert c.ids() == [orders[i] for i in want], word


def switch_per_page(c):
    c.generate(12)
    c.set(per_page_default=7)
    assert len(c.ids()) == 7
    c.set(per_page_max=5, per_page_over="clamped")
    assert len(c.ids(per_page=100)) == 5
    c.set(per_page_over="refused")
    assert c.api("GET", "order/pull-orders?per_page=6").status == 400
    assert len(c.ids(per_page=5)) == 5
    assert c.api("GET", "order/pull-orders?per_page=many").status == 400


def switch_limit(c):
    c.generate(12)
    c.set(limit="per_page")
    assert len(c.ids(limit=1)) == 1
    c.set(limit="ignored")
    assert len(c.ids(limit=1)) == 12


def switch_from_to(c):
    c.freeze("2026-11-20T10:00:00Z")
    early = c.order()
    c.advance(3600)
    late = c.order()
    c.advance(3600)
    c.act(early, "lines", lines=[{"id": c.state(early)["order"]["order_details"][0]["id"], "amount": 5}])
    c.set(from_to="created", order_sort="oldest")
    assert c.ids(**{"from": "2026-11-20T10:30:00"}) == [late]
    assert c.ids(to="2026-11-20T10:30:00.250000") == [early]
    c.set(from_to="modified")
    assert c.ids(**{"from": "2026-11-20T11:30:00"}) == [early]
    c.set(from_to="ignored")
    assert c.ids(**{"from": "2026-11-20T23:00:00"}) == [early, late]
    assert c.api("GET", "order/pull-orders?from=yesterday").status == 400


def switch_from_to_zone(c):
    c.freeze("2026-11-20T10:00:00Z")
    order = c.order()
    c.set(from_to_zone="utc")
    assert c.ids(**{"from": "2026-11-20T11:00:00"}) == [] and c.ids(**{"from": "2026-11-20 09:59"}) == [order]
    c.set(from_to_zone="cairo")
    assert c.ids(**{"from": "2026-11-20T11:59:00"}) == [order] and c.ids(**{"from": "2026-11-20T12:01:00"}) == []
    assert c.ids(**{"from": "2026-11-20"}) == [order]
    c.freeze("2026-07-20T10:00:00Z")  # three hours ahead in summer
    summer = c.order()
    assert c.ids(to="2026-07-20T13:00:00") == [summer] and c.ids(to="2026-07-20T12:59:00") == []


def switch_from_to_offset(c):
    c.freeze("2026-11-20T10:00:00Z")
    order = c.order()
    c.set(from_to_offset="honoured")
    assert c.ids(**{"from": "2026-11-20T11:30:00+02:00"}) == [order] and c.ids(**{"from": "2026-11-20T10:00:01Z"}) == []
    c.set(from_to_offset="ignored")
    assert c.ids(**{"from": "2026-11-20T11:30:00+02:00"}) == []
    c.set(from_to_offset="refused")
    assert c.api("GET", "order/pull-orders?from=2026-11-20T11:30:00Z").status == 400
    assert c.ids(**{"from": "2026-11-20T09:30:00"}) == [order]


def switch_to_end(c):
    c.freeze("2026-11-20T10:00:00Z")
    order = c.order()
    c.set(to_end="inclusive")
    assert c.ids(to="2026-11-20T10:00:00") == [order]
    c.set(to_end="exclusive")
    assert c.ids(to="2026-11-20T10:00:00") == [] and c.ids(to="2026-11-20T10:00:00.000001") == [order]


# ---------------------------------------------------------------- switches: what comes again

def change_line(c, order, amount=7):
    c.act(order, "lines", lines=[{"id": c.state(order)["order"]["order_details"][0]["id"], "amount": amount}])


def switch_acked_return(c):
    for word, by_status, by_lines in (("changed", True, True), ("status", True, False), ("never", False, False)):
        c.set(acked_return=word)
        first, second = c.order(), c.order()
        c.ack(first, second)
        c.act(first, "cancel")
        change_line(c, second)
        assert (first in c.ids(), second in c.ids()) == (by_status, by_lines), word
        c.ack(first, second)
        assert c.ids() == []


def switch_own_changes_return(c):
    for word in ("no", "yes"):
        c.set(own_changes_return=word)
        order = c.order()
        c.ids()
        c.ack(order)
        c.send(order, "approved")
        assert (order in c.ids()) == (word == "yes")
        c.ack(order)


def switch_ack_covers(c):
    c.set(ack_covers="current")
    order = c.order()
    assert c.ids() == [order]
    c.act(order, "cancel")
    c.ack(order)
    assert c.ids() == [], "the cancellation is lost to the client"
    c.set(ack_covers="pulled")
    order = c.order()
    assert c.ids() == [order]
    c.act(order, "cancel")
    c.ack(order)
    assert c.ids() == [order]
    c.ack(order)
    assert c.ids() == []
    # Its own change is known to the supplier and needs no other pull.
    order = c.order()
    c.ids()
    c.send(order, "approved")
    c.ack(order)
    assert c.ids() == []


def switch_ack_after(c):
    c.freeze()
    c.set(ack_after=20)
    order = c.order()
    c.ack(order)
    assert c.ids() == [order]
    c.advance(19)
    assert c.ids() == [order]
    c.advance(1)
    assert c.ids() == []
    c.set(ack_after=0)
    order = c.order()
    c.ack(order)
    assert c.ids() == []


def switch_pull_states(c):
    orders = {state: c.order(status=state) for state in ("pending", "editing", "approved", "delivered", "cancelled_by_retailer", "returned")}
    for word, left_out in (("all", set()), ("open", {"delivered", "cancelled_by_retailer", "returned"}), ("not_editing", {"editing"})):
        c.set(pull_states=word)
        assert set(c.ids()) == {order for state, order in orders.items() if state not in left_out}, word


def switch_repeats(c):
    orders = c.generate(40)
    c.set(repeat_in_page=1)
    page = c.ids(per_page=10)
    assert page[::2] == page[1::2] and len(set(page)) == 5
    c.set(repeat_in_page=0, repeat_in_walk=0.5)
    pages = c.walk(10)
    seen = [order for page in pages for order in page]
    assert set(seen) == set(orders) and len(seen) > 40
    assert all(len(set(page)) == len(page) for page in pages)
    assert any(set(a) & set(b) for a, b in zip(pages, pages[1:]))


def switch_return_after_ack(c):
    orders = c.generate(40)
    c.ack(*orders)
    c.set(return_after_ack=0.25)
    first, second = set(c.ids(per_page=100)), set(c.ids(per_page=100))
    assert first and second and first != second and first < set(orders)
    c.set(return_after_ack=0)
    assert c.ids() == []


def switch_visible_after(c):
    c.freeze()
    c.set(visible_after=30)
    order = c.order()
    assert c.ids() == []
    c.advance(29)
    assert c.ids() == []
    c.advance(1)
    assert c.ids() == [order]
    assert c.pull()[0]["created_at"].startswith("2026-11-20T12:00:00")


# ---------------------------------------------------------------- switches: shapes

def switch_receipt_id_and_created_at(c):
    c.freeze()
    c.order()
    shapes = {"text": lambda row: row["receipt_id"] == "1000001", "number": lambda row: row["receipt_id"] == 1000001,
              "absent": lambda row: "receipt_id" not in row}
    for word, fits in shapes.items():
        c.set(receipt_id=word)
        assert fits(c.pull()[0]), word
        expect_schema("pulled_orders", c.pull())
    shapes = {"utc": "2026-11-20T12:00:00.000000Z", "cairo": "2026-11-20T14:00:00", "seconds": 1795176000, "absent": None}
    for word, value in shapes.items():
        c.set(created_at=word)
        assert c.pull()[0].get("created_at") == value, word
        expect_schema("pulled_orders", c.pull())


def switch_hashed_id(c):
    c.set(hashed_id="letters")
    ids = c.generate(200)
    assert all(re.fullmatch(r"[A-Za-z0-9]{8}", each) for each in ids)
    folded = [each.lower() for each in ids]
    assert len(set(ids)) == 200 and len(set(folded)) < 200, "some differ by their case alone"
    c.set(hashed_id="digits")
    assert all(re.fullmatch(r"[0-9]{11}", each) for each in c.generate(50, **{"from": 200}))


def switch_numbers_and_amounts(c):
    c.order(order_details=[{"internal_product_id": "DEMO-001", "amount": 5, "selling_price": 12.5}], cartona_credit=30)
    for word, credit, price in (("natural", b"30", b"12.5"), ("float", b"30.0", b"12.5"), ("text", b'"30.00"', b'"12.50"')):
        c.set(numbers=word)
        data = c.api("GET", "order/pull-orders").data
        assert b'"cartona_credit":' + credit + b"," in data and b'"selling_price":' + price + b"," in data, data
        expect_schema("pulled_orders", c.pull())
        expect_schema("listed_products", c.api("GET", "supplier-product").body)
    for word, amount in (("natural", b"5"), ("float", b"5.0"), ("text", b'"5"')):
        c.set(amounts=word)
        assert b'"amount":' + amount + b"," in c.api("GET", "order/pull-orders").data
        expect_schema("pulled_orders", c.pull())


def switch_empty_texts(c):
    c.order()
    for word, want in (("null", None), ("empty", ""), ("absent", "-")):
        c.set(empty_texts=word)
        row = c.pull()[0]
        assert row.get("note_message", "-") == want and row["order_details"][0].get("comment", "-") == want
        assert row["retailer"].get("retailer_number", "-") == want
        expect_schema("pulled_orders", c.pull())


def switch_delivered_by(c):
    c.order()
    c.order(delivered_by="delivered_by_cartona")
    c.set(delivered_by="always")
    assert [row["delivered_by"] for row in c.pull()] == ["delivered_by_cartona", "delivered_by_supplier"]
    c.set(delivered_by="cartona_only")
    assert [row.get("delivered_by") for row in c.pull()] == ["delivered_by_cartona", None]


def switch_retailer_code(c):
    c.order()
    c.set(retailer_code="always")
    assert c.pull()[0]["retailer"]["retailer_code"] == "R-1"
    c.set(retailer_code="never")
    assert "retailer_code" not in c.pull()[0]["retailer"]


def switch_cancel_words(c):
    cancelled, returned = c.order(status="cancelled_by_retailer"), c.order(status="returned")
    for word, want in (("long", {cancelled: "cancelled_by_retailer", returned: "returned"}),
                       ("short", {cancelled: "cancelled", returned: "return"})):
        c.set(cancel_words=word)
        assert {row["hashed_id"]: row["status"] for row in c.pull()} == want
        expect_schema("pulled_orders", c.pull())


def switch_wallet_key(c):
    c.order(wallet_top_up=50)
    for word, other in (("wallet_top_up", "wallet_topup"), ("wallet_topup", "wallet_top_up")):
        c.set(wallet_key=word)
        row = c.pull()[0]
        assert row[word] == 50 and other not in row


def switch_text_escapes(c):
    c.order(note_message="شكرا \"☕\"\n\u0001")
    for word in ("utf8", "ascii"):
        c.set(text_escapes=word)
        answer = c.api("GET", "order/pull-orders")
        assert answer.data.isascii() == (word == "ascii")
        assert answer.body[0]["note_message"] == "شكرا \"☕\"\n\u0001"


def switch_line_ids(c):
    for word in ("kept", "new"):
        c.set(line_ids=word)
        order = c.order()
        before = c.state(order)["order"]["order_details"][0]["id"]
        change_line(c, order)
        assert (c.state(order)["order"]["order_details"][0]["id"] == before) == (word == "kept")


def switch_cancelled_lines(c):
    lines = [{"id": 5, "internal_product_id": "DEMO-001", "amount": 2, "selling_price": 10},
             {"id": 6, "internal_product_id": "DEMO-003", "amount": 1, "selling_price": 4}]
    for word, amounts in (("removed", [2]), ("zero", [2, 0])):
        c.set(cancelled_lines=word)
        order = c.order(order_details=lines)
        assert c.api("POST", "order/update-order-details", [{"hashed_id": order, "order_details": [{"id": 6, "cancelled": True}]}]).status == 200
        row = c.state(order)["order"]
        assert [line["amount"] for line in row["order_details"]] == amounts and row["total_price"] == 20


def switch_product_keys(c):
    for word, keys in (("misspelt", {"suppler_prodcut_id", "suppler_prodcut_name"}), ("correct", {"supplier_product_id", "supplier_product_name"}),
                       ("id", {"id", "name"})):
        c.set(product_keys=word)
        row = c.listed("DEMO-001")
        assert keys <= set(row) and len({"suppler_prodcut_id", "supplier_product_id", "id"} & set(row)) == 1
        expect_schema("listed_products", [row])
    c.set(product_keys="all")
    row = c.listed("DEMO-001")
    assert (row["id"], row["suppler_prodcut_id"], row["supplier_product_id"]) == (70001, "70001", "70001")
    expect_schema("listed_products", [row])


def switch_product_barcode(c):
    c.set(product_barcode="no")
    assert "barcode" not in c.listed("DEMO-001")
    c.set(product_barcode="yes")
    assert c.listed("DEMO-001")["barcode"] == "2000000000015" == c.product("DEMO-001")["barcode"]
    expect_schema("listed_products", [c.listed("DEMO-001")])


# ---------------------------------------------------------------- switches: what a supplier may do

def switch_returned(c):
    for word, status in (("no", 400), ("yes", 200)):
        c.set(returned=word)
        order = c.order(status="assigned_to_salesman")
        assert c.send(order, "returned").status == status
        assert c.status_of(order) == ("returned" if word == "yes" else "assigned_to_salesman")
    assert c.send(c.order(), "returned").status == 400


def switch_skip_steps(c):
    c.set(skip_steps="yes")
    assert c.send(c.order(), "delivered").status == 200
    c.set(skip_steps="no")
    order = c.order()
    assert [c.send(order, state).status for state in ("assigned_to_salesman", "delivered", "approved", "assigned_to_salesman", "delivered")] == [400, 400, 200, 200, 200]


def switch_step_back(c):
    for word, status in (("no", 400), ("yes", 200)):
        c.set(step_back=word)
        order = c.order(status="approved")
        assert c.send(order, "pending").status == status
    assert c.send(c.order(status="delivered"), "approved").status == 400, "delivered is final all the same"


def switch_same_status(c):
    order = c.order(status="approved")
    version = c.state(order)["version"]
    for word, status in (("accepted", 200), ("refused", 400)):
        c.set(same_status=word)
        assert c.send(order, "approved").status == status
    assert c.state(order)["version"] == version


def switch_editing_writes(c):
    for word, status in (("refused", 400), ("accepted", 200)):
        c.set(editing_writes=word)
        assert c.send(c.order(status="editing"), "approved").status == status


def switch_cartona_delivers(c):
    for word, status in (("guarded", 400), ("open", 200)):
        c.set(cartona_delivers=word)
        order = c.order(delivered_by="delivered_by_cartona")
        assert c.send(order, "approved").status == 200
        assert c.send(order, "delivered").status == status
    order = c.order(delivered_by="delivered_by_cartona")
    c.set(cartona_delivers="guarded")
    assert c.send(order, "cancelled_by_supplier", cancellation_reason="out_of_stock").status == 200


def switch_cancel_reason(c):
    for word, want in (("known", [200, 200, 400]), ("required", [400, 200, 400]), ("any", [200, 200, 200])):
        c.set(cancel_reason=word)
        reasons = [{}, {"cancellation_reason": "out_of_stock"}, {"cancellation_reason": "because"}]
        assert [c.send(c.order(), "cancelled_by_supplier", **reason).status for reason in reasons] == want


def switch_otp_tries(c):
    c.set(otp_tries=0)
    order = c.order(installment_cost=5, retailer_otp="111111")
    assert [c.send(order, "delivered", retailer_otp=otp).status for otp in ("1", "2", "3", "111111")] == [400, 400, 400, 200]
    c.set(otp_tries=2)
    order = c.order(installment_cost=5, retailer_otp="111111")
    assert [c.send(order, "delivered", retailer_otp=otp).status for otp in ("1", "2", "111111")] == [400, 400, 400]
    assert c.status_of(order) == "pending"


BAD_ROW = {"ignored": (200, [True, True]), "refused": (400, [False, False]), "stops": (400, [True, False]), "stops_quietly": (200, [True, False])}


def switch_bulk_status_bad_row(c):
    for word, (status, applied) in BAD_ROW.items():
        c.set(bulk_status_bad_row=word)
        first, bad, last = c.order(), c.order(status="delivered"), c.order()
        answer = c.api("POST", "order/update-order-status", [{"hashed_id": each, "status": "approved"} for each in (first, bad, last)])
        assert answer.status == status, (word, answer)
        assert [c.status_of(each) == "approved" for each in (first, last)] == applied, word
        assert c.status_of(bad) == "delivered"


def switch_bulk_details_bad_row(c):
    for word, (status, applied) in BAD_ROW.items():
        c.set(bulk_details_bad_row=word)
        orders = [c.order(order_details=[{"id": 1, "internal_product_id": "DEMO-001", "amount": 1, "selling_price": 5}]) for _ in range(3)]
        rows = [{"hashed_id": orders[i], "order_details": [{"id": 1 if i != 1 else 77, "amount": 2}]} for i in range(3)]
        assert c.api("POST", "order/update-order-details", rows).status == status, word
        assert [c.state(orders[i])["order"]["total_price"] == 10 for i in (0, 2)] == applied, word


def switch_bulk_product_bad_row(c):
    for number, (word, (status, applied)) in enumerate(BAD_ROW.items(), 100):
        c.set(bulk_product_bad_row=word)
        codes = ("DEMO-001", "NO-SUCH", "DEMO-003")
        assert c.update(*({"internal_product_id": code, "available_stock_quantity": number} for code in codes)).status == status, word
        assert [c.product(code)["available_stock_quantity"] == number for code in ("DEMO-001", "DEMO-003")] == applied, word
        bases = ("8004", "no", "8005")
        assert c.api("POST", "supplier-product/base-product/bulk-update-stock",
                     [{"base_product_id": base, "available_stock_quantity": number} for base in bases]).status == status
        assert [c.product(code)["available_stock_quantity"] == number for code in ("DEMO-007", "DEMO-009")] == applied, word


def switch_bulk_max_and_over(c):
    c.set(bulk_max=2, bulk_over="refused")
    rows = [{"internal_product_id": code, "available_stock_quantity": 77} for code in ("DEMO-001", "DEMO-002", "DEMO-003")]
    assert c.update(*rows).status == 413 and c.product("DEMO-001")["available_stock_quantity"] != 77
    c.set(bulk_over="cut")
    assert c.update(*rows).status == 200
    assert [c.product(row["internal_product_id"])["available_stock_quantity"] == 77 for row in rows] == [True, True, False]
    c.set(bulk_max=0, bulk_over="refused")
    assert c.update(*(rows * 500)).status == 200


def switch_account_field(c):
    c.control("/accounts", {"name": "both", "token": "both", "supplier_codes": ["1", "2"]})
    def stocks():
        return [row["available_stock_quantity"] for row in c.control("/products", {"account": "both", "internal_product_id": "DEMO-001"}, "GET")["products"]]
    def send(stock, **more):
        return c.api("POST", "supplier-product/bulk-update", [{"internal_product_id": "DEMO-001", "available_stock_quantity": stock, **more}], token="both").status
    assert send(1) == 200 and stocks() == [1, 1], "without a code all accounts are meant"
    for word, by_code, by_internal in (("both", [1, 2], [3, 2]), ("supplier_code", [1, 2], [3, 3]), ("internal_supplier_code", [2, 2], [3, 2])):
        c.set(account_field="both")
        send(1)
        c.set(account_field=word)
        assert send(2, supplier_code="2") == 200 and stocks() == by_code, (word, stocks())
        assert send(3, internal_supplier_code="1") == 200 and stocks() == by_internal, (word, stocks())
    c.set(bulk_product_bad_row="refused", account_field="both")
    assert send(4, supplier_code="9") == 400


def switch_unlimited_stock(c):
    row = {"internal_product_id": "DEMO-001", "is_unlimited_stock": True}
    c.set(bulk_product_bad_row="refused", unlimited_stock="refused")
    assert c.update(row).status == 400 and "is_unlimited_stock" not in c.listed("DEMO-001")
    c.set(unlimited_stock="ignored")
    assert c.update(row).status == 200 and not c.product("DEMO-001")["is_unlimited_stock"]
    c.set(unlimited_stock="known")
    assert c.update(row).status == 200 and c.listed("DEMO-001")["is_unlimited_stock"]


def switch_price_text(c):
    row = {"internal_product_id": "DEMO-001", "selling_price": "4.25"}
    c.set(bulk_product_bad_row="refused", price_text="refused")
    assert c.update(row).status == 400
    c.set(price_text="accepted")
    assert c.update(row).status == 200 and c.product("DEMO-001")["selling_price"] == 4.25


def switch_stock_fraction(c):
    row = {"internal_product_id": "DEMO-001", "available_stock_quantity": 7.5}
    c.set(bulk_product_bad_row="refused", stock_fraction="refused")
    assert c.update(row).status == 400
    assert c.update({**row, "available_stock_quantity": 7.0}).status == 200
    c.set(stock_fraction="floored")
    assert c.update({**row, "available_stock_quantity": 8.5}).status == 200 and c.product("DEMO-001")["available_stock_quantity"] == 8


def switch_orders_take_stock(c):
    for word, taken in (("no", 0), ("yes", 2)):
        c.set(orders_take_stock=word)
        before = c.product("DEMO-001")["available_stock_quantity"]
        c.order()
        assert c.product("DEMO-001")["available_stock_quantity"] == before - taken


def switches_are_listed_refused_and_put_back(c):
    rows = {row["name"]: row for row in c.control("/switches", method="GET")["switches"]}
    assert all(row["meaning"] and row["value"] == row["default"] for row in rows.values())
    assert "no switch 'no_such'" in c.refused_control("/switches", {"no_such": 1})
    assert "clamped" in c.refused_control("/switches", {"bad_token": 401, "per_page_over": "maybe"})
    assert c.refused_control("/switches", {"bulk_max": -1})
    assert {row["name"]: row["value"] for row in c.control("/switches", method="GET")["switches"]}["bad_token"] == "400", "all or none"
    c.set(bad_token=401)
    c.control("/switches", method="DELETE")
    assert c.api("GET", "order/pull-orders", token="x").status == 400
    text = subprocess.run([str(PROGRAM), "--help"], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name}={row['default']:g}" in text if isinstance(row["default"], float) else f"  {name}={row['default']}" in text
               for name, row in rows.items())


def reference_page_lists_every_switch(c):
    page = (ROOT / "docs" / "reference" / "cartona-stand-in.md").read_text()
    table = subprocess.run([str(PROGRAM), "--markdown-switches"], capture_output=True, text=True, check=True).stdout
    assert table in page, "put the output of sandbox-cartona --markdown-switches into docs/reference/cartona-stand-in.md"


# ---------------------------------------------------------------- the API beside the switches

def accounts_see_only_their_own(c):
    c.control("/accounts", {"name": "other", "token": "other-token"})
    mine, theirs = c.order(), c.order(account="other")
    assert c.ids() == [mine] and c.ids(token="other-token") == [theirs]
    assert c.send(theirs, "approved").status == 404 and c.status_of(theirs) == "pending"
    c.order(account="other", supplier_code="1")
    c.control("/accounts", {"name": "wide", "token": "wide", "supplier_codes": ["1", "2", "3"]})
    for code in "123":
        c.order(account="wide", supplier_code=code)
    assert sorted(row["supplier_code"] for row in c.pull(token="wide")) == ["1", "2", "3"]


def states_follow_their_order(c):
    order = c.order()
    assert [c.send(order, state).status for state in ("approved", "assigned_to_salesman", "delivered")] == [200, 200, 200]
    for state in ("pending", "approved", "cancelled_by_supplier"):
        assert c.send(order, state).status == 400
    for state in ("editing", "cancelled_by_retailer", "nonsense", ""):
        assert c.send(c.order(), state).status == 400, state
    assert c.api("POST", "order/update-order-status/" + order, {"hashed_id": "another", "status": "approved"}).status == 400
    assert c.api("POST", "order/update-order-status/" + order, "{").status == 400
    assert c.api("POST", "order/update-order-status", {"hashed_id": order, "status": "synced"}).status == 400
    assert c.send(c.order(), "approved", estimated_delivery_day="tomorrow").status == 400


def unknown_paths_and_methods_are_refused(c):
    assert c.api("GET", "order/nothing").status == 404
    assert c.api("POST", "order/pull-orders", {}).status == 405
    assert c.api("GET", "order/update-order-status").status == 405
    assert c.raw("GET", "/elsewhere").status == 404
    assert c.api("DELETE", "supplier-product").status == 405


def products_are_found_by_each_field(c):
    def codes(**query):
        return [row["internal_product_id"] for row in c.api("GET", "supplier-product?" + urllib.parse.urlencode({"per_page": 100, **query})).body]
    assert codes(internal_product_id="DEMO-007") == ["DEMO-007"] == codes(supplier_product_id="70007")
    assert codes(base_product_id="8001") == ["DEMO-001", "DEMO-002"]
    assert codes(search_token="قهوة") == ["DEMO-037", "DEMO-038"] and codes(search_token="DEMO-06") == ["DEMO-060"]
    assert [len(codes(per_page=25, page=page)) for page in (1, 2, 3)] == [25, 25, 10]
    bases = c.api("GET", "supplier-product/base-products?per_page=100").body
    assert len(bases) == 30 and bases[0]["base_product_id"] == "8001"


def figures_carry_the_time_they_were_set(c):
    c.freeze("2026-11-20T12:00:00Z")
    before = c.product("DEMO-001")
    c.advance(5)
    c.update({"internal_product_id": "DEMO-001", "available_stock_quantity": 9})
    c.advance(5)
    c.update({"internal_product_id": "DEMO-001", "selling_price": 5, "available_stock_quantity": 8})
    row = c.product("DEMO-001")
    assert (row["stock_set_at"], row["price_set_at"]) == ("2026-11-20T12:00:10.000000Z",) * 2
    assert (row["stock_writes"], row["price_writes"]) == (before["stock_writes"] + 2, before["price_writes"] + 1)
    writes = c.control("/writes", {"internal_product_id": "DEMO-001", "field": "available_stock_quantity"}, "GET")["writes"]
    assert [(write["to"], write["at"][17:19]) for write in writes] == [("9", "05"), ("8", "10")]
    assert c.control("/writes", {"since": writes[-1]["seq"] - 1}, "GET")["writes"][0]["field"] == "available_stock_quantity"


# ---------------------------------------------------------------- control interface

def start_line_ready_file_and_prefix(c):
    assert c.first_line.startswith("sandbox-cartona listening on " + c.env["CARTONA_URL"]), c.first_line
    assert int(c.env["CARTONA_PID"]) == c.process.pid and c.env["CARTONA_TOKEN"] == TOKEN and c.prefix == "/api/v1/"
    with tempfile.TemporaryDirectory() as folder:
        products = pathlib.Path(folder) / "products.json"
        products.write_text(json.dumps([{"id": 41, "default_code": "FURN-1", "barcode": False, "display_name": "Desk", "list_price": 85.5, "qty_available": 4.0},
                                        {"id": 42, "default_code": False, "name": "Chair", "list_price": 20}]))
        other = Cartona(folder, "--prefix", "/partner/v2/", "--accounts", "2", "--supplier-codes", "2", "--products", str(products),
                        "--switch", "bad_token=401", "--switch", "bulk_max=3")
        try:
            assert other.prefix == "/partner/v2/" and other.api("GET", "order/pull-orders", token="x").status == 401
            assert other.raw("GET", "/api/v1/order/pull-orders").status == 404
            rows = other.api("GET", "supplier-product?supplier_code=2").body
            assert [(row["internal_product_id"], row["selling_price"], row["available_stock_quantity"]) for row in rows] == [("FURN-1", 85.5, 4), ("42", 20, 0)], rows
            assert other.api("GET", "order/pull-orders", token=other.env["CARTONA_TOKEN_2"]).status == 200
            assert other.control("/switches", method="DELETE") and other.api("GET", "order/pull-orders", token="x").status == 401, "back to the start's"
        finally:
            other.stop()
        for wrong in (["--switch", "nothing=1"], ["--prefix", "api"], ["--products", "/no/such/file"], ["--switch", "walk"]):
            done = subprocess.run([str(PROGRAM), *wrong], capture_output=True, text=True)
            assert done.returncode == 1 and done.stderr.startswith("sandbox-cartona: "), (wrong, done)


def same_seed_same_orders(c):
    c.freeze()
    c.generate(50)
    first = c.pull(per_page=100)
    c.control("/reset")
    c.freeze()
    c.generate(50)
    assert c.pull(per_page=100) == first
    c.control("/reset")
    c.control("/orders", {"count": 50, "seed": SEED + 1})
    other = [row["order_details"] for row in c.pull(per_page=100)]
    assert other != [row["order_details"] for row in first]


def generated_orders_hold_what_a_day_holds(c):
    c.generate(2000)
    rows = [row for page in range(1, 21) for row in c.pull(page=page, per_page=100)]
    assert len(rows) == 2000
    assert any(len({line["supplier_product_id"] for line in row["order_details"]}) < len(row["order_details"]) for row in rows)
    for key in ("cartona_credit", "installment_cost", "wallet_top_up", "pickup_otp", "note_message"):
        assert any(row[key] for row in rows), key
    shops = {row["retailer"].get("retailer_code"): row["retailer"] for row in rows}
    assert any(not shop["retailer_number"] for shop in shops.values()) and None in shops
    numbers = collections.Counter(shop["retailer_number"] for shop in shops.values() if shop["retailer_number"])
    names = collections.Counter(shop["retailer_name"] for shop in shops.values())
    assert max(numbers.values()) > 1 and max(names.values()) > 1
    assert any("\U0001F319" in name or "☕" in name or "🛒" in name for name in names)
    assert any(line["internal_product_id"].startswith("NEW-") for row in rows for line in row["order_details"])
    c.control("/reset")
    c.generate(200, mix={"wrong": 1})
    rows = [row for page in (1, 2) for row in c.pull(page=page, per_page=100)]
    assert any(row["status"] == "waiting_for_the_moon" for row in rows)
    assert any(line["amount"] < 0 for row in rows for line in row["order_details"])
    assert "no share" in c.refused_control("/orders", {"count": 1, "mix": {"nothing": 1}})


def others_act_as_they_would(c):
    order = c.order()
    c.act(order, "edit")
    assert c.pull()[0]["status"] == "editing"
    line = c.state(order)["order"]["order_details"][0]["id"]
    c.act(order, "finish_edit", lines=[{"id": line, "amount": 6}, {"internal_product_id": "DEMO-004", "amount": 1}])
    row = c.pull()[0]
    assert row["status"] == "pending" and [each["amount"] for each in row["order_details"]] == [6, 1] and not row["edited_by_admin"]
    c.act(order, "lines", seed=1)
    assert c.pull()[0]["edited_by_admin"]
    c.act(order, "change", fields={"note_message": "سريعا", "wallet_top_up": 50, "retailer": {"retailer_name": "New name"}}, raw={"delivered_by": "by_drone"})
    row = c.pull()[0]
    assert (row["note_message"], row["wallet_top_up"], row["retailer"]["retailer_name"], row["delivered_by"]) == ("سريعا", 50, "New name", "by_drone")
    c.act(order, "change", raw=None)
    assert c.pull()[0]["delivered_by"] == "delivered_by_supplier"
    c.act(order, "approve")
    c.act(order, "assign")
    assert "force" in c.refused_control("/act", {"hashed_id": order, "do": "cancel"})
    c.act(order, "return")
    assert c.status_of(order) == "returned"
    c.act(order, "status", status="gone_fishing")
    assert c.pull()[0]["status"] == "gone_fishing"
    ledger = c.control("/ledger", {"hashed_id": order, "what": "status"}, "GET")["ledger"]
    assert [(entry["by"], entry["to"]) for entry in ledger] == [
        ("shop", "editing"), ("shop", "pending"), ("supplier", "approved"), ("driver", "assigned_to_salesman"),
        ("driver", "returned"), ("cartona", "gone_fishing")], ledger
    many = [c.order(), c.order()]
    assert len(c.control("/act", {"hashed_ids": many, "do": "cancel"})["orders"]) == 2
    c.ack(*many)
    c.act(many[0], "unack")
    assert many[0] in c.ids() and many[1] not in c.ids()


def requests_are_kept_in_order(c):
    order = c.order()
    c.pull(page=1, per_page=5)
    c.send(order, "approved")
    c.send(order, "synced")
    c.api("GET", "order/pull-orders", token="wrong")
    log = c.control("/requests", method="GET")["requests"]
    assert [(row["method"], row["path"], row["status"], row["account"]) for row in log] == [
        ("GET", "order/pull-orders", 200, "cartona-1"), ("POST", "order/update-order-status/" + order, 200, "cartona-1"),
        ("POST", "order/update-order-status/" + order, 200, "cartona-1"), ("GET", "order/pull-orders", 400, "")], log
    assert log[0]["query"] == "page=1&per_page=5" and json.loads(log[2]["body"])["status"] == "synced"
    assert len(c.control("/requests", {"since": log[1]["seq"], "path": "order/update"}, "GET")["requests"]) == 1
    c.control("/requests", method="DELETE")
    assert c.control("/requests", method="GET")["requests"] == []
    c.pull()
    assert len(c.control("/requests", method="GET")["requests"]) == 1


def everything_is_exported(c):
    orders = c.generate(20)
    c.pull(per_page=10)
    c.ack(orders[-1])
    c.update({"internal_product_id": "DEMO-001", "selling_price": 5})
    everything = c.control("/export", method="GET")
    assert {"now", "accounts", "order_list", "products", "ledger", "writes", "requests", "switches"} <= set(everything)
    assert [row["order"]["hashed_id"] for row in everything["order_list"]] == orders
    assert sum(row["pulls"] for row in everything["order_list"]) == 10
    acked = everything["order_list"][-1]
    assert acked["acked"] and acked["acks"] == 1 and acked["acked_at"] and acked["pulled_version"] == acked["version"] == 1
    assert everything["accounts"][0]["orders"] == 20 and everything["accounts"][0]["acked"] == 1 and everything["accounts"][0]["pulled"] == 10
    assert everything["writes"][0]["field"] == "selling_price" and len(everything["products"]) == 60


def reset_brings_the_beginning_back(c):
    c.generate(5)
    c.control("/accounts", {"name": "more", "token": "more", "products": "none"})
    c.set(bad_token=401)
    c.fault("status")
    state = c.control("/reset", {"keep": ["accounts", "switches"]})
    assert state["orders"] == 0 and len(state["accounts"]) == 2 and state["faults"] == []
    assert c.api("GET", "order/pull-orders", token="x").status == 401
    state = c.control("/reset")
    assert len(state["accounts"]) == 1 and c.api("GET", "order/pull-orders", token="x").status == 400
    assert c.refused_control("/reset", {"keep": ["everything"]})


def bad_control_calls_say_why(c):
    assert "no GET /sandbox/nothing" in c.refused_control("/nothing", method="GET")
    assert "no account" in c.refused_control("/orders", {"account": "nobody"})
    assert "no order" in c.refused_control("/act", {"hashed_id": "nobody", "do": "cancel"})
    assert "already" in c.refused_control("/orders", {"orders": [{"hashed_id": c.order(hashed_id="Mine0001")}]})
    assert "already" in c.refused_control("/accounts", {"name": "cartona-1"})
    assert c.raw("POST", "/sandbox/orders", "[1]").status == 400 and c.raw("POST", "/sandbox/orders", "{").status == 400
    assert "wrong type" in c.refused_control("/orders", {"orders": [{"edited_by_admin": "yes"}]})


# ---------------------------------------------------------------- faults and dead accounts

def broken(c, call):
    try:
        call()
    except (ConnectionError, http.client.HTTPException):
        return
    raise AssertionError("the answer came whole")


def connections_break_before_or_after_applying(c):
    for kind, applied in (("closed_before", False), ("reset_before", False), ("closed_after", True), ("reset_after", True)):
        order = c.order()
        c.fault(kind, {"path": "order/update-order-status", "nth": 1})
        broken(c, lambda: c.send(order, "approved"))
        assert (c.status_of(order) == "approved") == applied, kind
        assert c.send(order, "approved").status == 200
        c.control("/faults", method="DELETE")
    log = c.control("/requests", {"path": "order/update"}, "GET")["requests"]
    assert [row["status"] for row in log] == [0, 200] * 4 and log[0]["fault"] == "closed_before"


def error_pages_and_retry_after(c):
    order = c.order()
    for status in (400, 429, 500, 502, 503, 504):
        c.fault("status", {"times": 1}, status=status, retry_after=7)
        answer = c.send(order, "approved")
        assert answer.status == status and answer.headers["Retry-After"] == "7" and b"<html>" in answer.data
    assert c.status_of(order) == "pending"
    c.freeze("2026-11-20T12:00:00Z")
    c.fault("status", {"times": 1}, status=429, retry_after=30, retry_after_date=True)
    assert c.send(order, "approved").headers["Retry-After"] == "Fri, 20 Nov 2026 12:00:30 GMT"
    c.fault("status", {"times": 1}, status=504, after=True)
    assert c.send(order, "approved").status == 504 and c.status_of(order) == "approved"
    c.fault("replace", {"times": 1}, body="<html>maintenance</html>")
    answer = c.api("GET", "order/pull-orders")
    assert answer.status == 200 and b"maintenance" in answer.data
    c.fault("bad_token", {"times": 1})
    assert c.api("GET", "order/pull-orders").status == 400 and c.api("GET", "order/pull-orders").status == 200


def bodies_come_broken_or_slowly(c):
    c.generate(3)
    whole = c.api("GET", "order/pull-orders").data
    c.fault("cut", {"times": 1}, at=50)
    broken(c, lambda: c.api("GET", "order/pull-orders"))
    c.fault("truncated", {"times": 1}, at=50)
    assert c.api("GET", "order/pull-orders").data == whole[:50]
    c.fault("drip", {"times": 1}, bytes=1000, ms=1)
    assert c.api("GET", "order/pull-orders").data == whole
    c.fault("invalid_utf8", {"times": 1})
    try:
        c.api("GET", "order/pull-orders").data.decode()
    except UnicodeDecodeError:
        pass
    else:
        raise AssertionError("the bytes were UTF-8")
    c.fault("giant", {"times": 1}, bytes=20_000_000)
    assert len(c.api("GET", "order/pull-orders").data) == 20_000_000
    c.fault("deep", {"times": 1}, depth=3000)
    assert c.raw("GET", "/sandbox/state").status == 200
    connection = http.client.HTTPConnection("127.0.0.1", c.port, timeout=60)
    connection.request("GET", c.prefix + "order/pull-orders", headers={"AuthorizationToken": TOKEN})
    assert connection.getresponse().read() == b"[" * 3000 + b"]" * 3000
    connection.close()


def faults_are_matched_counted_and_replayed(c):
    c.control("/accounts", {"name": "other", "token": "other"})
    order = c.order()
    c.fault("status", {"account": "other"})
    assert c.api("GET", "order/pull-orders").status == 200 and c.api("GET", "order/pull-orders", token="other").status == 503
    c.control("/faults", method="DELETE")
    c.fault("status", {"body": '"delivered"', "method": "POST"})
    assert c.send(order, "approved").status == 200 and c.send(order, "delivered").status == 503
    c.control("/faults", method="DELETE")
    c.fault("status", {"after": 2, "times": 1})
    assert [c.api("GET", "order/pull-orders").status for _ in range(4)] == [200, 200, 503, 200]
    assert [(rule["seen"], rule["fired"]) for rule in c.control("/faults", method="GET")["faults"]] == [(4, 1)]
    def outcomes():
        c.control("/faults", method="DELETE")
        c.fault("status", {"probability": 0.5, "seed": 11})
        return [c.api("GET", "order/pull-orders").status for _ in range(20)]
    first = outcomes()
    assert first == outcomes() and set(first) == {200, 503}
    assert "known:" in c.refused_control("/faults", {"action": {"kind": "meteor"}})
    assert "matched by" in c.refused_control("/faults", {"match": {"moon": 1}, "action": {"kind": "status"}})


def a_delay_holds_only_its_own_call(c):
    order = c.order()
    c.fault("hang", {"path": "order/update-order-status"})
    outcome = []
    def hung():
        try:
            c.send(order, "approved")
            outcome.append("answered")
        except (ConnectionError, http.client.HTTPException):
            outcome.append("closed")
    thread = threading.Thread(target=hung)
    thread.start()
    while not c.control("/requests", {"path": "order/update"}, "GET")["requests"]:
        pass
    assert c.ids() == [order] and c.status_of(order) == "pending"
    c.control("/faults", method="DELETE")
    c.fault("delay", {"times": 1}, ms=1)
    assert c.ids() == [order]
    c.fault("delay", {"times": 1}, ms=1, after=True)
    assert c.send(order, "approved").status == 200
    c.stop()
    thread.join()
    assert outcome == ["closed"], "a hanging call ends with the server"
    raise Restart


def dead_accounts_and_revoked_tokens(c):
    c.control("/accounts", {"name": "other", "token": "other"})
    for word in ("closed", "reset"):
        c.control("/accounts", {"name": "other", "dead": word}, "PATCH")
        broken(c, lambda: c.api("GET", "order/pull-orders", token="other"))
        assert c.api("GET", "order/pull-orders").status == 200
    c.control("/accounts", {"name": "other", "dead": "error"}, "PATCH")
    assert c.api("GET", "order/pull-orders", token="other").status == 503
    c.control("/accounts", {"name": "other", "dead": "hang"}, "PATCH")
    c.control("/requests", method="DELETE")
    thread = threading.Thread(target=lambda: broken(c, lambda: c.api("GET", "order/pull-orders", token="other")))
    thread.start()
    while not c.control("/requests", method="GET")["requests"]:
        pass
    assert c.api("GET", "order/pull-orders").status == 200
    c.control("/accounts", {"name": "other", "dead": "no"}, "PATCH")
    thread.join()
    assert c.api("GET", "order/pull-orders", token="other").status == 200
    c.control("/accounts", {"name": "other", "add_token": "newer"}, "PATCH")
    c.control("/accounts", {"name": "other", "revoke_token": "other"}, "PATCH")
    assert [c.api("GET", "order/pull-orders", token=token).status for token in ("other", "newer")] == [400, 200]
    c.control("/accounts", {"name": "other", "revoke": True}, "PATCH")
    assert c.api("GET", "order/pull-orders", token="newer").status == 400


def keeps_connections_and_reads_chunks(c):
    c.order()
    connection = http.client.HTTPConnection("127.0.0.1", c.port, timeout=60)
    before = c.control("/state", method="GET")["connections"]
    for _ in range(5):
        connection.request("GET", c.prefix + "order/pull-orders", headers={"AuthorizationToken": TOKEN})
        assert len(json.loads(connection.getresponse().read())) == 1
    assert c.control("/state", method="GET")["connections"] == before + 2, "one for five calls, one for this"
    connection.request("POST", c.prefix + "supplier-product/bulk-update", iter([b'[{"internal_product_id":"DEMO-001",', b'"selling_price":3}]']),
                       {"AuthorizationToken": TOKEN, "Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().read() and c.product("DEMO-001")["selling_price"] == 3
    connection.close()
    with socket.create_connection(("127.0.0.1", c.port)) as raw:
        raw.sendall(b"POST /api/v1/order/update-order-status HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 100 Continue")
        raw.sendall(b"[]")
        assert b"HTTP/1.1 400" in raw.makefile("rb").read()


# ---------------------------------------------------------------- the trading day

def play_day(c, approve, seconds=57600, step=1800, **options):
    """A day step by step; the supplier approves what is new at each step if asked to."""
    c.freeze("2026-11-20T05:00:00Z")
    c.control("/scenario", {"scenario": "day", "speed": 0, "seed": SEED, "orders": 300, **options})
    for _ in range(0, seconds, step):
        c.control("/scenario/step", {"seconds": step})
        if approve:
            page = c.pull(per_page=100)
            while page:
                rows = [{"hashed_id": row["hashed_id"], "status": "approved"} for row in page if row["status"] == "pending"]
                if rows:
                    c.api("POST", "order/update-order-status", rows)
                c.api("POST", "order/update-order-status", [{"hashed_id": row["hashed_id"], "status": "synced"} for row in page])
                page = c.pull(per_page=100)
    return c.control("/scenario", method="GET")


def a_day_is_the_same_again(c):
    def day():
        c.control("/reset")
        state = play_day(c, approve=True)
        everything = c.control("/export", method="GET")
        return state, everything["order_list"], everything["ledger"]
    first, second = day(), day()
    assert first == second
    state, orders, ledger = first
    assert state["finished"] and state["counts"]["order"] == 300 == len(orders)
    for what in ("edit", "end_edit", "cancel", "admin_edit", "assign", "deliver", "late"):
        assert state["counts"].get(what), (what, state)
    assert {entry["by"] for entry in ledger} >= {"shop", "supplier", "driver", "cartona", "admin"}
    assert {row["order"]["status"] for row in orders} >= {"approved", "delivered", "cancelled_by_retailer"}


def a_day_without_a_supplier_gets_nowhere(c):
    play_day(c, approve=False)
    statuses = c.control("/state", method="GET")["accounts"][0]["statuses"]
    assert set(statuses) <= {"pending", "editing", "cancelled_by_retailer"} and statuses["pending"] > 200, statuses


def a_day_on_which_orders_are_approved_there(c):
    state = play_day(c, approve=False, orders=100, approvals=1, cancels=0)
    statuses = c.control("/state", method="GET")["accounts"][0]["statuses"]
    assert state["counts"]["approve"] > 90 and statuses["delivered"] > 10 and "pending" not in statuses, (state, statuses)
    assert c.refused_control("/scenario", {"approvals": 2})


def a_day_with_several_accounts_and_its_shares(c):
    c.control("/accounts", {"name": "wide", "token": "wide", "supplier_codes": ["1", "2"]})
    state = play_day(c, approve=False, orders=40, accounts=["wide"], cancels=1, edits=0, mix={"credit": 1})
    rows = c.control("/orders", method="GET")["orders"]
    assert state["counts"]["order"] == 80 == len(rows) and {row["account"] for row in rows} == {"wide"}
    assert all(row["order"]["cartona_credit"] > 0 for row in rows if row["order"]["total_price"] > 20)
    assert state["counts"]["cancel"] > 40 and "edit" not in state["counts"]
    assert c.refused_control("/scenario", {"scenario": "night"}) and c.refused_control("/scenario", {"moon": 1})
    assert c.refused_control("/scenario", {"accounts": ["nobody"]})


def a_day_plays_by_itself_at_any_speed(c):
    with tempfile.TemporaryDirectory() as folder:
        busy = Cartona(folder, "--scenario", "day", "--speed", "1000000", "--orders", "200", "--accounts", "2")
        try:
            while not busy.control("/scenario", method="GET")["finished"]:
                pass
            assert busy.control("/state", method="GET")["orders"] == 400
            assert "by itself" in busy.refused_control("/scenario/step", {"seconds": 1})
            busy.control("/scenario", method="DELETE")
            assert busy.control("/scenario", method="GET")["scenario"] is None
        finally:
            busy.stop()


def every_position_of_every_switch_was_set(c):
    missing = []
    for row in c.control("/switches", method="GET")["switches"]:
        values = [position["value"] for position in row["positions"]]
        tried = {value for name, value in c.tried if name == row["name"]}
        missing += [f"{row['name']}={value}" for value in values if value not in tried]
        if not values and not tried:
            missing.append(row["name"])
    assert not missing, missing


def a_state_file_is_gone_on_from(c):
    with tempfile.TemporaryDirectory() as folder:
        state = str(pathlib.Path(folder) / "state")
        first = Cartona(folder, "--state", state)
        made = first.control("/orders", {"count": 30, "seed": 3})["hashed_ids"]
        first.control("/act", {"hashed_id": made[0], "do": "approve"})
        first.control("/act", {"hashed_id": made[1], "do": "edit"})
        acked = first.raw("POST", f"{first.prefix}order/update-order-status/{made[2]}", json.dumps({"hashed_id": made[2], "status": "synced"}),
                          {"AuthorizationToken": TOKEN})
        assert acked.status == 200, acked
        before = {row["order"]["hashed_id"]: row for row in first.control("/orders", {"limit": 1000}, "GET")["orders"]}
        products = first.control("/products", {}, "GET")["products"]
        first.stop()
        again = Cartona(folder, "--state", state)
        after = {row["order"]["hashed_id"]: row for row in again.control("/orders", {"limit": 1000}, "GET")["orders"]}
        assert after.pop(made[1])["order"]["status"] == "pending", "nobody is left who would finish it"
        before.pop(made[1])
        assert after == before and again.control("/products", {}, "GET")["products"] == products
        assert not set(again.control("/orders", {"count": 30, "seed": 3})["hashed_ids"]) & set(made), "an id is not given out again"
        again.stop()
        pathlib.Path(state).write_text("{}")
        refused = subprocess.run([str(PROGRAM), "--state", state], capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "is no state of a stand-in Cartona" in refused.stderr, refused


class Restart(Exception):
    """The test has stopped its server."""


TESTS = [value for name, value in list(globals().items()) if callable(value) and getattr(value, "__code__", None)
         and value.__code__.co_varnames[:1] == ("c",) and value.__code__.co_argcount == 1]


def main():
    patterns = sys.argv[1:]
    failed = False
    print(f"DRAGOMAN_SEED={SEED}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        c = None
        try:
            for test in TESTS:
                name = "StandInCartona." + test.__name__
                whole = test is every_position_of_every_switch_was_set
                if patterns and (whole or not any(p.lower() in name.lower() for p in patterns)):
                    continue
                try:
                    if c is None:
                        tried = set()
                        c = Cartona(folder)
                    c.control("/reset")
                    c.control("/clock")
                    try:
                        test(c)
                    except Restart:
                        tried, c = c.tried, Cartona(folder)
                        c.tried = tried
                    print("PASS", name, flush=True)
                except Exception as error:  # each test reports by itself
                    failed = True
                    print(f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())[:600]}", flush=True)
                    traceback.print_exc(file=sys.stdout) if os.environ.get("DRAGOMAN_TRACE") else None
                    if c is not None and c.process.poll() is not None:
                        tried, c = c.tried, Cartona(folder)
                        c.tried = tried
        finally:
            if c is not None:
                c.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

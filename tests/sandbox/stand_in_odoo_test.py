#!/usr/bin/env python3
"""What the stand-in Odoo has beyond a real one: faults on demand, open transactions, SQL, schema, generated records.

Prints 'PASS name' or 'FAIL name: why' per test. The program is build/asan/sandbox/sandbox-odoo or DRAGOMAN_SANDBOX_ODOO.
Arguments: only tests whose name holds one of them.
"""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("DRAGOMAN_SANDBOX_ODOO") or ROOT / "build" / "asan" / "sandbox" / "sandbox-odoo")


class StandIn:
    def __init__(self, folder, *arguments):
        self.ready = pathlib.Path(folder) / f"ready{time.monotonic_ns()}.env"
        self.process = subprocess.Popen([str(PROGRAM), "--ready-file", str(self.ready), *arguments], stdout=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL, text=True)
        self.first_line = self.process.stdout.readline()
        for _ in range(600):
            if self.ready.exists():
                break
            time.sleep(0.05)
        self.env = dict(line.strip().split("=", 1) for line in self.ready.open())
        self.port = urllib.parse.urlparse(self.env["ODOO_URL"]).port

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0, "it did not end cleanly"

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers or {})
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def control(self, path, body=None, method="POST"):
        response, data = self.raw(method, "/sandbox" + path, body if body is not None else {})
        answer = json.loads(data)
        assert response.status == 200, answer
        return answer

    def rpc(self, model, method, *args, **kwargs):
        """(response, bytes) of a JSON-RPC call."""
        return self.raw("POST", "/jsonrpc", {"jsonrpc": "2.0", "method": "call", "id": 1, "params": {
            "service": "object", "method": "execute_kw", "args": [self.env["ODOO_DB"], 2, "admin", model, method, args, kwargs]}})

    def call(self, model, method, *args, **kwargs):
        answer = json.loads(self.rpc(model, method, *args, **kwargs)[1])
        assert "error" not in answer, answer["error"]["data"]["message"]
        return answer.get("result")

    def fault(self, action, **match):
        self.control("/faults", {"match": match, "action": action})


def expect_broken(odoo, what, *args, **kwargs):
    try:
        odoo.rpc(*args, **kwargs)
    except what:
        return
    raise AssertionError("the answer came whole")


def first_line_and_ready_file(odoo):
    assert odoo.first_line.startswith("sandbox-odoo listening on " + odoo.env["ODOO_URL"]), odoo.first_line
    assert int(odoo.env["ODOO_PID"]) == odoo.process.pid


def reset_after_commit_keeps_the_record(odoo):
    odoo.fault({"kind": "reset_after_commit"}, method="create", nth=1)
    expect_broken(odoo, ConnectionError, "res.partner", "create", {"name": "Reset", "ref": "t1"})
    assert odoo.call("res.partner", "search_count", [["ref", "=", "t1"]]) == 1


def reset_before_and_killed_worker_leave_nothing(odoo):
    odoo.fault({"kind": "reset_before"}, method="create", nth=1)
    expect_broken(odoo, ConnectionError, "res.partner", "create", {"name": "Reset", "ref": "t2"})
    odoo.control("/faults", method="DELETE")
    odoo.fault({"kind": "worker_killed"}, method="create", times=1)
    expect_broken(odoo, (ConnectionError, http.client.HTTPException), "res.partner", "create", {"name": "Killed", "ref": "t2"})
    assert odoo.call("res.partner", "search_count", [["ref", "=", "t2"]]) == 0


def proxy_pages_and_retry_after(odoo):
    for status in (429, 500, 502, 503, 504):
        odoo.control("/faults", method="DELETE")
        odoo.fault({"kind": "status", "status": status, "retry_after": 7}, method="search")
        response, body = odoo.rpc("res.partner", "search", [])
        assert response.status == status and response.getheader("Retry-After") == "7", (response.status, response.getheaders())
        assert response.getheader("Content-Type") == "text/html" and body.startswith(b"<html>"), body[:80]


def redirect_and_other_pages(odoo):
    odoo.fault({"kind": "redirect", "location": "/web/login"}, method="search", times=1)
    response, _ = odoo.rpc("res.partner", "search", [])
    assert response.status == 303 and response.getheader("Location") == "/web/login"
    odoo.control("/faults", method="DELETE")
    odoo.fault({"kind": "replace"}, method="search", times=1)
    response, body = odoo.rpc("res.partner", "search", [])
    assert response.status == 200 and b"It works" in body


def cut_announces_more_than_comes(odoo):
    odoo.fault({"kind": "cut", "at": 50}, method="search_read", times=1)
    expect_broken(odoo, http.client.IncompleteRead, "res.partner", "search_read", [], ["name"])


def half_a_page_in_good_http(odoo):
    odoo.fault({"kind": "truncated"}, method="search_read", times=1)
    response, body = odoo.rpc("res.partner", "search_read", [], ["name"])
    assert int(response.getheader("Content-Length")) == len(body) > 100
    try:
        json.loads(body)
    except ValueError:
        return
    raise AssertionError("it was whole")


def deep_and_bad_bytes_and_big_ids(odoo):
    odoo.fault({"kind": "deep", "depth": 5000}, method="search", nth=1)
    assert odoo.rpc("res.partner", "search", [])[1].count(b"[") >= 5000
    odoo.control("/faults", method="DELETE")
    odoo.fault({"kind": "invalid_utf8"}, method="search_read", nth=1)
    try:
        odoo.rpc("res.country", "search_read", [], ["name"])[1].decode()
    except UnicodeDecodeError:
        pass
    else:
        raise AssertionError("the bytes were UTF-8")
    odoo.control("/faults", method="DELETE")
    odoo.fault({"kind": "big_ids"}, method="search_read", nth=1)
    rows = odoo.call("res.country", "search_read", [], ["name"], limit=2, order="id")
    assert [row["id"] for row in rows] == [2**40 + 1, 2**40 + 2], rows


def giant_body_streams(odoo):
    odoo.fault({"kind": "giant", "bytes": 50_000_000}, method="search_read", nth=1)
    response, body = odoo.rpc("res.country", "search_read", [], ["name"])
    assert len(body) == int(response.getheader("Content-Length")) == 50_000_000
    assert body.startswith(b'{"jsonrpc": "2.0", "id": 1, "result": [{"id": 1, "name": "xxx'), body[:80]


def probability_repeats_with_its_seed(odoo):
    def outcomes():
        odoo.control("/faults", method="DELETE")
        odoo.fault({"kind": "status", "status": 503}, method="search_count", probability=0.5, seed=11)
        return [odoo.rpc("res.country", "search_count", [])[0].status for _ in range(20)]
    first = outcomes()
    assert first == outcomes() and {200, 503} == set(first), first


def open_transaction_shows_at_commit_with_its_start(odoo):
    tx = odoo.control("/tx/begin")
    late = odoo.control("/tx/create", {"tx": tx["tx"], "model": "res.partner", "values": {"name": "Late", "ref": "t9"}})["id"]
    early = odoo.call("res.partner", "create", {"name": "Early", "ref": "t9"})
    assert early > late and odoo.call("res.partner", "search", [["ref", "=", "t9"]]) == [early]
    odoo.control("/tx/commit", {"tx": tx["tx"]})
    times = dict(odoo.control("/times", {"model": "res.partner"})["times"])
    assert times[late] == tx["start_us"] < times[early]
    tx = odoo.control("/tx/begin")
    odoo.control("/tx/write", {"tx": tx["tx"], "model": "res.partner", "ids": [early], "values": {"city": "Jena"}})
    odoo.control("/tx/rollback", {"tx": tx["tx"]})
    assert odoo.call("res.partner", "read", [early], ["city"]) == [{"id": early, "city": False}]


def sql_leaves_write_date_alone(odoo):
    one = odoo.call("res.partner", "create", {"name": "By hand"})
    before = dict(odoo.control("/times", {"model": "res.partner"})["times"])[one]
    odoo.control("/sql/update", {"model": "res.partner", "ids": [one], "values": {"city": "Odense"}})
    assert odoo.call("res.partner", "read", [one], ["city"]) == [{"id": one, "city": "Odense"}]
    assert dict(odoo.control("/times", {"model": "res.partner"})["times"])[one] == before
    big = odoo.control("/sql/insert", {"model": "res.partner", "id": 2**33, "values": {"name": "Big", "active": True, "write_date": before}})["id"]
    assert odoo.call("res.partner", "search", [["id", ">", 2**32]]) == [big]
    odoo.control("/sql/delete", {"model": "res.partner", "ids": [one, big]})
    assert odoo.call("res.partner", "search", [["id", "in", [one, big]]]) == []


def schema_changes_while_running(odoo):
    odoo.control("/schema/field", {"model": "res.partner", "name": "x_rank", "attributes": {"type": "integer", "string": "Rank"}})
    one = odoo.call("res.partner", "create", {"name": "Ranked", "x_rank": 4})
    assert odoo.call("res.partner", "fields_get", ["x_rank"], ["type"]) == {"x_rank": {"type": "integer"}}
    assert odoo.call("res.partner", "search", [["x_rank", "=", 4]]) == [one]
    odoo.control("/schema/field", {"model": "res.partner", "name": "x_rank"}, "DELETE")
    assert odoo.call("res.partner", "fields_get", ["x_rank"], ["type"]) == {}
    odoo.control("/schema/model", {"name": "x_outlet", "label": "Outlet", "fields": {"x_name": {"type": "char"}, "x_partner_id": {"type": "many2one", "relation": "res.partner"}}})
    outlet = odoo.call("x_outlet", "create", {"x_name": "North", "x_partner_id": one})
    assert odoo.call("x_outlet", "read", [outlet], ["x_partner_id", "display_name"]) == [{"id": outlet, "x_partner_id": [one, "Ranked"], "display_name": "North"}]


def clock_moves(odoo):
    odoo.control("/clock", {"offset_seconds": -86400})
    one = odoo.call("res.partner", "create", {"name": "Yesterday"})
    at = dict(odoo.control("/times", {"model": "res.partner"})["times"])[one]
    odoo.control("/clock", {"offset_seconds": 0})
    assert abs(at / 1e6 - (time.time() - 86400)) < 600, at


def log_and_counters(odoo):
    odoo.control("/log", method="DELETE")
    for _ in range(3):
        odoo.call("res.country", "search_read", [["code", "=", "BE"]], ["name"])
    entries = odoo.control("/log", {"model": "res.country"}, "GET")["entries"]
    assert len(entries) == 3 and entries[0]["method"] == "search_read" and "BE" in entries[0]["args"] and entries[0]["outcome"] == "ok", entries
    idle = [socket.create_connection(("127.0.0.1", odoo.port)) for _ in range(5)]
    for connection in idle:
        connection.close()
    state = odoo.control("/state", method="GET")
    assert state["methods"]["res.country.search_read"] == 3 and state["open_peak"] >= 2, state


def generated_records_are_the_same_again(odoo):
    odoo.control("/fill", {"model": "res.partner", "count": 20_000, "seed": 5})
    total = odoo.call("res.partner", "search_count", [], context={"active_test": False})
    assert total > 20_000
    page = odoo.call("res.partner", "search_read", [["id", ">", 15_000]], ["name", "email", "city", "write_date"], order="id", limit=1000,
                     context={"active_test": False})
    assert len(page) == 1000 and all(row["name"] and row["email"] for row in page)
    with tempfile.TemporaryDirectory() as folder:
        other = StandIn(folder)
        other.control("/fill", {"model": "res.partner", "count": 20_000, "seed": 5})
        answer = other.rpc("sale.order", "search_read", [], [], order="id")[1]
        other.stop()
        again = StandIn(folder)
        assert again.rpc("sale.order", "search_read", [], [], order="id")[1] == answer
        again.stop()


def churn_writes_and_stops(odoo):
    with tempfile.TemporaryDirectory() as folder:
        busy = StandIn(folder, "--churn", "200")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and busy.call("res.partner", "search_count", [["name", "=like", "Late %"]]) == 0:
            pass
        assert busy.call("res.partner", "search_count", [["name", "=like", "Late %"]]) > 0
        busy.stop()


def churn_counts_what_it_did(odoo):
    odoo.control("/churn", {"per_second": 300, "seed": 4})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and sum(odoo.control("/churn", method="GET")["counts"].values()) < 200:
        time.sleep(0.05)
    counts = odoo.control("/churn", method="DELETE")["counts"]
    assert counts["late begin"] == counts["late commit"] and counts["create"] > 0 and "refused" not in counts, counts
    made = odoo.call("res.partner", "search_count", ["|", ["name", "=like", "Walk-in %"], ["name", "=like", "Late %"]], context={"active_test": False})
    assert made == counts["create"] + counts["late commit"] - counts.get("unlink", 0), (made, counts)
    assert odoo.control("/churn", method="GET")["counts"] == {}


def a_state_file_is_gone_on_from(odoo):
    with tempfile.TemporaryDirectory() as folder:
        state = str(pathlib.Path(folder) / "state")
        first = StandIn(folder, "--state", state)
        model = first.call("ir.model", "search", [["model", "=", "res.partner"]])[0]
        first.call("ir.model.fields", "create", {"model_id": model, "name": "x_kept", "field_description": "Kept", "ttype": "char"})
        made = first.call("res.partner", "create", {"name": "Zoë", "x_kept": "yes", "comment": "<p>a</p>"})
        gone = first.call("res.partner", "create", {"name": "Gone"})
        first.call("res.partner", "unlink", [gone])
        asked = [(model, first.rpc(model, "search_read", [], [], order="id")[1])
                 for model in ("res.partner", "sale.order", "sale.order.line", "stock.quant", "res.users", "product.product")]
        first.stop()
        again = StandIn(folder, "--state", state)
        for model, answer in asked:
            assert again.rpc(model, "search_read", [], [], order="id")[1] == answer, model
        assert again.call("res.partner", "read", [made], ["x_kept"])[0]["x_kept"] == "yes"
        assert again.call("res.partner", "create", {"name": "Next"}) > gone, "an id is not given out again"
        again.stop()
        pathlib.Path(state).write_bytes(b"{}")
        refused = subprocess.run([str(PROGRAM), "--state", state], capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "is no state of a stand-in Odoo" in refused.stderr, refused


TESTS = [value for name, value in list(globals().items()) if callable(value) and getattr(value, "__code__", None)
         and value.__code__.co_varnames[:1] == ("odoo",) and value.__code__.co_argcount == 1]


def main():
    patterns = sys.argv[1:]
    failed = False
    for test in TESTS:
        name = "StandIn." + test.__name__
        if patterns and not any(p.lower() in name.lower() for p in patterns):
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                odoo = StandIn(folder)
                try:
                    test(odoo)
                finally:
                    odoo.stop()
            print("PASS", name, flush=True)
        except Exception as error:  # each test reports by itself
            failed = True
            print(f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())[:500]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

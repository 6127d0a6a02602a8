#!/usr/bin/env python3
"""Runs the contract cases on one server, real or stand-in: what Odoo does, so that a stand-in can be believed.

usage: run.py --env FILE [--record] [--case ID]... [--junit OUT.xml] [--list]

FILE holds ODOO_URL, ODOO_DB, ODOO_USERNAME, ODOO_PASSWORD, ODOO_API_KEY, ODOO_VERSION (19, 14); ODOO_SANDBOX=1 marks
a stand-in. --record writes what a real server answered to recorded/; a case that was never recorded on a real server of
a series fails on the stand-in of that series. Cases make their own records and remove them, also after a failure.
See README.md for the form of a case.
"""
import argparse
import copy
import datetime
import http.client
import json
import pathlib
import re
import socket
import sys
import threading
import time
import traceback
import urllib.parse
import xml.sax.saxutils
import xmlrpc.client

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 120
PROCEDURES = {path.stem: path.read_text() for path in (HERE.parent.parent / "addon" / "procedures").glob("*.py")}


class Mismatch(Exception):
    """An answer that is not what the case expects."""


class Answer:
    """What a call gave: a value, nothing at all (None), or an error by Odoo's name."""

    def __init__(self, status, value=None, no_result=False, error=None, text="", headers=None):
        self.status, self.value, self.no_result, self.error = status, value, no_result, error
        self.text, self.headers = text, headers or {}

    def shown(self):
        if self.error is not None:
            return {"error": {k: v for k, v in self.error.items() if k not in ("debug", "traceback")}, "status": self.status}
        if self.no_result:
            return {"no_result": True, "status": self.status}
        return {"value": self.value}


class Server:
    def __init__(self, env):
        url = urllib.parse.urlparse(env["ODOO_URL"])
        self.host, self.port = url.hostname, url.port or 80
        self.db, self.login, self.password = env["ODOO_DB"], env["ODOO_USERNAME"], env["ODOO_PASSWORD"]
        self.key = env.get("ODOO_API_KEY", "")
        self.series = int(env["ODOO_VERSION"].split(".")[0])
        self.workers = int(env.get("ODOO_WORKERS", "2"))
        self.is_standin = env.get("ODOO_SANDBOX") == "1"
        self.sessions = {}
        self.uids = {}

    @property
    def name(self):
        return ("StandIn" if self.is_standin else "Odoo") + str(self.series)

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response, response.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def uid(self, login, password):
        if (login, password) not in self.uids:
            answer = self.jsonrpc({"service": "common", "method": "authenticate", "args": [self.db, login, password, {}]})
            self.uids[login, password] = answer.value
        return self.uids[login, password]

    def jsonrpc(self, params, request_id=1):
        body = json.dumps({"jsonrpc": "2.0", "method": "call", "id": request_id, "params": params})
        response, text = self.raw("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
        return self.json_rpc_answer(response, text)

    @staticmethod
    def json_rpc_answer(response, text):
        document = json.loads(text)
        headers = {k.lower(): v for k, v in response.getheaders()}
        if "error" in document:
            error = dict(document["error"]["data"], code=document["error"]["code"], title=document["error"]["message"])
            return Answer(response.status, error=error, text=text, headers=headers)
        return Answer(response.status, document.get("result"), "result" not in document, text=text, headers=headers)

    def call(self, transport, user, model, method, args, kwargs, named):
        if transport == "jsonrpc":
            uid = user.get("uid") or self.uid(user["login"], user["password"])
            return self.jsonrpc({"service": "object", "method": "execute_kw",
                                 "args": [user.get("db", self.db), uid, user["password"], model, method, args, kwargs]})
        if transport == "xmlrpc":
            uid = user.get("uid") or self.uid(user["login"], user["password"])
            proxy = xmlrpc.client.ServerProxy(f"http://{self.host}:{self.port}/xmlrpc/2/object", allow_none=True)
            try:
                return Answer(200, proxy.execute_kw(self.db, uid, user["password"], model, method, args, kwargs))
            except xmlrpc.client.Fault as fault:
                return Answer(200, error={"name": f"Fault {fault.faultCode}", "message": fault.faultString})
        if transport == "json2":
            headers = {"Content-Type": "application/json", "Authorization": "bearer " + user["key"], "X-Odoo-Database": self.db}
            response, text = self.raw("POST", f"/json/2/{model}/{method}", json.dumps(named), headers)
            value = json.loads(text)
            if response.status >= 400:
                return Answer(response.status, error=value, text=text)
            return Answer(response.status, value, text=text)
        if transport == "session":
            cookie = self.sessions.get(user["login"])
            if cookie is None:
                response, _ = self.raw("POST", "/web/session/authenticate", json.dumps(
                    {"jsonrpc": "2.0", "params": {"db": self.db, "login": user["login"], "password": user["password"]}}),
                    {"Content-Type": "application/json"})
                cookie = self.sessions[user["login"]] = response.getheader("Set-Cookie").split(";")[0]
            body = {"jsonrpc": "2.0", "id": 1, "params": {"model": model, "method": method, "args": args, "kwargs": kwargs}}
            response, text = self.raw("POST", "/web/dataset/call_kw", json.dumps(body),
                                      {"Content-Type": "application/json", "Cookie": cookie})
            return self.json_rpc_answer(response, text)
        raise ValueError("unknown transport " + transport)

    def admin(self, model, method, *args, **kwargs):
        answer = self.call("jsonrpc", {"login": self.login, "password": self.password}, model, method, list(args), kwargs, {})
        if answer.error:
            raise RuntimeError(f"{model}.{method}: {answer.error['message']}")
        return answer.value

    def control(self, path, body):
        response, text = self.raw("POST", "/sandbox" + path, json.dumps(body), {"Content-Type": "application/json"})
        if response.status != 200:
            raise RuntimeError(path + ": " + text)
        return json.loads(text)


# ---------------------------------------------------------------- matching

TYPES = {"int": lambda v: isinstance(v, int) and not isinstance(v, bool), "float": lambda v: isinstance(v, float),
         "str": lambda v: isinstance(v, str), "bool": lambda v: isinstance(v, bool), "list": lambda v: isinstance(v, list),
         "object": lambda v: isinstance(v, dict), "null": lambda v: v is None,
         "datetime": lambda v: isinstance(v, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", v) is not None}


def match(expected, actual, at, variables):
    """Raises Mismatch unless `actual` is what `expected` says. Integers and floats are different things."""
    def fail(why):
        raise Mismatch(f"{at}: {why}; got {json.dumps(actual)[:600]}")

    if isinstance(expected, dict) and expected and all(key.startswith("$") for key in expected):
        for key, rule in expected.items():
            if key == "$type" and not any(TYPES[name](actual) for name in rule.split("|")):
                fail(f"not of type {rule}")
            elif key == "$regex" and not (isinstance(actual, str) and re.search(rule, actual, re.S)):
                fail(f"does not match {rule!r}")
            elif key == "$contains":
                if isinstance(rule, dict):
                    for name, value in rule.items():
                        if not isinstance(actual, dict) or name not in actual:
                            fail(f"no key {name!r}")
                        match(value, actual[name], f"{at}.{name}", variables)
                else:
                    for value in rule:
                        if value not in actual:
                            fail(f"does not hold {value!r}")
            elif key == "$lacks":
                for value in rule:
                    if value in actual:
                        fail(f"holds {value!r}")
            elif key == "$keys" and list(actual) != rule:
                fail(f"keys are not {rule} in this order")
            elif key == "$each":
                for i, item in enumerate(actual):
                    match(rule, item, f"{at}[{i}]", variables)
            elif key == "$len" and len(actual) != rule:
                fail(f"length is not {rule}")
            elif key == "$set" and sorted(map(json.dumps, actual)) != sorted(map(json.dumps, rule)):
                fail(f"not the same members as {rule}")
            elif key == "$not":
                try:
                    match(rule, actual, at, {})
                except Mismatch:
                    pass
                else:
                    fail(f"should not match {rule}")
            elif key == "$ge" and not actual >= rule:
                fail(f"below {rule}")
            elif key == "$save":
                variables[rule] = actual
            elif key not in ("$type", "$regex", "$keys", "$len", "$set", "$ge", "$any"):
                raise ValueError(f"{at}: unknown matcher {key}")
        return
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or set(actual) != set(expected):
            fail(f"keys are not {sorted(expected)}")
        for name, value in expected.items():
            match(value, actual[name], f"{at}.{name}", variables)
    elif isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            fail(f"not a list of {len(expected)}")
        for i, value in enumerate(expected):
            match(value, actual[i], f"{at}[{i}]", variables)
    elif type(expected) is not type(actual) or expected != actual:
        fail(f"is not {json.dumps(expected)}")


def fill(value, variables, series):
    """Puts variables in, and chooses what is for this series: {"$by_series": {"14": …, "else": …}}."""
    if isinstance(value, dict):
        if set(value) == {"$by_series"}:
            return fill(value["$by_series"].get(str(series), value["$by_series"].get("else")), variables, series)
        return {fill(k, variables, series): fill(v, variables, series) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(item, variables, series) for item in value]
    if isinstance(value, str):
        whole = re.fullmatch(r"\$\{(\w+)((?:\.\w+)*)\}", value)

        def look(found):
            name, path = found.group(1), found.group(2)
            if name not in variables:
                raise KeyError("variable " + name)
            result = variables[name]
            for step in filter(None, path.split(".")):
                result = result[int(step)] if step.isdigit() and isinstance(result, list) else result[step]
            return result
        if whole:
            return copy.deepcopy(look(whole))
        return re.sub(r"\$\{(\w+)((?:\.\w+)*)\}", lambda found: str(look(found)), value)
    return value


# ---------------------------------------------------------------- steps

class Late:
    """A transaction that begins now and commits later, with a record made in it."""

    def __init__(self, server, values):
        self.server, self.values = server, values
        if server.is_standin:
            self.tx = server.control("/tx/begin", {"uid": 2})["tx"]
            server.control("/tx/create", {"tx": self.tx, "model": "res.partner", "values": values})
            return
        model_id = server.admin("ir.model", "search", [["model", "=", "res.partner"]])[0]
        code = f"env['res.partner'].create({values!r})\nenv.cr.execute('select pg_sleep(4)')"
        self.action = server.admin("ir.actions.server", "create",
                                   {"name": "contract late commit", "model_id": model_id, "state": "code", "code": code})
        self.action = self.action[0] if isinstance(self.action, list) else self.action
        self.error = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        # Until the transaction is seen to run: its record is not visible, its work is.
        time.sleep(1.2)

    def run(self):
        try:
            self.server.admin("ir.actions.server", "run", [self.action], context={"active_model": "res.partner"})
        except Exception as error:  # reported when joined
            self.error = error

    def finish(self):
        if self.server.is_standin:
            self.server.control("/tx/commit", {"tx": self.tx})
            return
        self.thread.join()
        self.server.admin("ir.actions.server", "unlink", [self.action])
        if self.error:
            raise self.error


class Procedures:
    """Dragoman's procedures, put in place by an administrator for one case: a group, a user in it, the server actions, the
    table. The user has no right on any model that the procedures write."""

    def __init__(self, server, token):
        self.server = server
        internal = server.admin("ir.model.data", "search_read", [["module", "=", "base"], ["name", "=", "group_user"]], ["res_id"])
        model = server.admin("ir.model", "search", [["model", "=", "ir.actions.server"]])[0]
        self.new = server.series >= 19
        self.users_of_group = "user_ids" if self.new else "users"
        self.groups_of_action = "group_ids" if self.new else "groups_id"
        self.internal = internal[0]["res_id"]
        self.model = model
        self.group = server.admin("res.groups", "create", {"name": "contract procedures " + token})
        self.user_login, self.user_password = "contract-p" + token, "procedures-" + token
        companies = server.admin("res.company", "search", [])
        self.user = server.admin("res.users", "create", {
            "name": "Contract Procedures", "login": self.user_login, "password": self.user_password, "company_ids": [[6, 0, companies]],
            self.groups_of_action: [[6, 0, [self.internal, self.group]]]})
        self.actions = {name: self.action(name, "contract_" + name, self.group) for name in ("import", "inspect", "market", "order", "relink") if name in PROCEDURES}
        self.setup({})

    def action(self, name, xml_id, group):
        rows = [["__dragoman__." + xml_id, xml_id.replace("_", " "), str(self.model), "code", PROCEDURES[name], str(group or "")]]
        fields = ["id", "name", "model_id/.id", "state", "code", self.groups_of_action + "/.id"]
        answer = self.server.admin("ir.actions.server", "load", fields, rows)
        if not answer["ids"]:
            raise RuntimeError(str(answer["messages"]))
        return answer["ids"][0]

    def setup(self, payload):
        """As an administrator, by a server action that is there for this one call; answers as a call does."""
        action = self.action("setup", "contract_setup", None)
        try:
            return self.server.call("jsonrpc", {"login": self.server.login, "password": self.server.password}, "ir.actions.server",
                                    "run", [[action]], {"context": {"dragoman": payload}}, {})
        finally:
            self.server.admin("ir.actions.server", "unlink", [action])

    def run(self, name, payload, context):
        return self.server.call("jsonrpc", {"login": self.user_login, "password": self.user_password}, "ir.actions.server", "run",
                                [[self.actions[name]]], {"context": {**context, "dragoman": payload}}, {})

    def remove(self):
        self.server.admin("ir.actions.server", "unlink", list(self.actions.values()))
        self.server.admin("res.groups", "unlink", [self.group])
        try:
            self.server.admin("res.users", "unlink", [self.user])
        except RuntimeError:
            # Who made a product can't be deleted any more.
            self.server.admin("res.users", "write", [self.user], {"active": False, "login": "gone-" + self.user_login})


class CaseRun:
    def __init__(self, server, case, token):
        self.server, self.case, self.answers, self.late, self.procedures = server, case, [], None, None
        self.variables = {"run": token, "db": server.db, "login": server.login, "password": server.password, "key": server.key,
                          "series": server.series, "groups": "group_ids" if server.series >= 19 else "groups_id"}

    def user(self, step):
        name = step.get("as")
        if name is None:
            return {"login": self.server.login, "password": self.server.password, "key": self.server.key}
        user = fill(name, self.variables, self.server.series)
        return {"key": "", "login": "", **user}

    def perform(self, step):
        series, variables = self.server.series, self.variables
        if "series" in step and series not in step["series"]:
            return
        if "call" in step:
            call = fill(step["call"], variables, series)
            model, method = call.rsplit(".", 1)
            args = fill(step.get("args", []), variables, series)
            kwargs = fill(step.get("kwargs", {}), variables, series)
            named = fill(step.get("named", kwargs), variables, series)
            transports = [t for t in step.get("transports", ["jsonrpc"]) if t != "json2" or series >= 19]
            expect_error = fill(step["error"], variables, series) if "error" in step else None
            for transport in transports:
                answer = self.server.call(transport, self.user(step), model, method, args, kwargs, named)
                self.check(step, answer, transport, expect_error)
        elif "http" in step:
            request = fill(step["http"], variables, series)
            body = request.get("body")
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            response, text = self.server.raw(request.get("method", "POST"), request["path"], body, request.get("headers", {}))
            headers = {k.lower(): v for k, v in response.getheaders()}
            self.answers.append({"status": response.status, "http": "1.%d" % (response.version % 10),
                                 "content_type": headers.get("content-type"), "body": text[:300]})
            expected = fill(step.get("expect", {}), variables, series)
            if "status" in expected:
                match(expected["status"], response.status, "status", variables)
            if "version" in expected:
                match(expected["version"], response.version, "version", variables)
            for name, rule in expected.get("headers", {}).items():
                match(rule, headers.get(name), "header " + name, variables)
            if "text" in expected:
                match(expected["text"], text, "body", variables)
            if "json" in expected:
                match(expected["json"], json.loads(text), "body", variables)
        elif "late_begin" in step:
            self.late = Late(self.server, fill(step["late_begin"], variables, series))
        elif "late_finish" in step:
            late, self.late = self.late, None
            late.finish()
        elif "next_second" in step:
            time.sleep(1.05)
        elif "idle_connections" in step:
            self.idle_connections()
        elif "procedure" in step or "setup_procedure" in step:
            if "setup_procedure" in step:
                name, answer = "setup", self.procedures.setup(fill(step["setup_procedure"], variables, series))
            else:
                name = step["procedure"]
                answer = self.procedures.run(name, fill(step["payload"], variables, series), fill(step.get("context", {}), variables, series))
            if name in ("import", "order", "relink") and answer.error is None:
                answer.value = answer.value["items"]
            self.check({**step, "call": "procedure " + name}, answer, "jsonrpc",
                       fill(step["error"], variables, series) if "error" in step else None)
        elif "procedures_at_once" in step:
            self.at_once(step, fill(step["payload"], variables, series))
        else:
            raise ValueError(f"unknown step {step}")

    def check(self, step, answer, transport, expect_error):
        at = f"{transport} {step['call']}"
        self.answers.append(dict(answer.shown(), transport=transport))
        series, variables = self.server.series, self.variables
        if expect_error is None:
            if answer.error is not None:
                raise Mismatch(f"{at}: refused with {answer.error.get('name')}: {str(answer.error.get('message'))[:800]}")
        else:
            if answer.error is None:
                raise Mismatch(f"{at}: not refused; got {json.dumps(answer.value)[:300]}")
            wanted = expect_error.get(transport, expect_error)
            for name in ("name", "message", "arguments", "code", "title"):
                if name in wanted:
                    match(wanted[name], answer.error.get(name), f"{at} error {name}", variables)
            if transport == "json2" and "status" in wanted:
                match(wanted["status"], answer.status, f"{at} status", variables)
            return
        if "no_result" in step:
            none = answer.no_result if transport in ("jsonrpc", "session") else answer.value is None
            if none != step["no_result"]:
                raise Mismatch(f"{at}: result present: {not none}")
        if "text" in step:
            match(fill(step["text"], variables, series), answer.text, f"{at} bytes", variables)
        if "expect" in step:
            match(fill(step["expect"], variables, series), answer.value, at, variables)
        if "save" in step:
            variables[step["save"]] = answer.value

    def at_once(self, step, payload):
        """The same call several times at the same moment; `outcomes` are those of all items, sorted."""
        answers = [None] * step["times"]

        def one(i):
            answers[i] = self.procedures.run(step["procedures_at_once"], payload, {})
        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(answers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for answer in answers:
            self.answers.append(dict(answer.shown(), transport="jsonrpc"))
            if answer.error is not None:
                raise Mismatch(f"one of several at once was refused: {answer.error.get('name')}: {str(answer.error.get('message'))[:800]}")
        items = [item for answer in answers for item in answer.value["items"] or []]
        match(step["outcomes"], sorted(item["outcome"] for item in items), "outcomes", self.variables)
        ids = {}
        for item in items:
            if ids.setdefault(item["key"], item["id"]) != item["id"]:
                raise Mismatch(f"the key {item['key']} has two records, {ids[item['key']]} and {item['id']}")

    def idle_connections(self):
        """As many silent connections as workers: the next request waits until one of them goes."""
        idle = [socket.create_connection((self.server.host, self.server.port)) for _ in range(self.server.workers)]
        try:
            asking = socket.create_connection((self.server.host, self.server.port), timeout=TIMEOUT)
            time.sleep(0.2)
            asking.sendall(b"POST /web/webclient/version_info HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                           b"Content-Length: 2\r\n\r\n{}")
            asking.settimeout(0.4)
            try:
                early = asking.recv(1)
            except socket.timeout:
                early = None
            if early:
                raise Mismatch("answered although every worker was held by a silent connection")
            asking.settimeout(TIMEOUT)
            if not asking.recv(1):
                raise Mismatch("closed instead of answered once the workers were free")
            asking.close()
        finally:
            for connection in idle:
                connection.close()

    def run(self):
        try:
            if self.case.get("setup") == "procedures":
                self.procedures = Procedures(self.server, self.variables["run"])
                self.variables.update(self.procedures.actions, group=self.procedures.group, internal=self.procedures.internal,
                                      group_users=self.procedures.users_of_group, procedures=PROCEDURES)
            for step in self.case["steps"]:
                self.perform(step)
        finally:
            if self.late is not None:
                try:
                    self.late.finish()
                except Exception:
                    traceback.print_exc()
            for step in self.case.get("cleanup", []):
                try:
                    self.perform(step)
                except (KeyError, Mismatch):
                    pass  # what the case did not get to make
            if self.procedures is not None:
                try:
                    self.procedures.remove()
                except RuntimeError as error:
                    print(f"note: procedures stay: {str(error)[:200]}", file=sys.stderr)


# ---------------------------------------------------------------- the whole run

def shorten(value):
    if isinstance(value, str) and len(value) > 400:
        return value[:400] + "…"
    if isinstance(value, list):
        return [shorten(item) for item in value[:12]]
    if isinstance(value, dict):
        return {k: shorten(v) for k, v in list(value.items())[:40]}
    return value


def sweep(server):
    """Removes what an interrupted run left behind."""
    for model, field in (("sale.order", "client_order_ref"), ("res.partner", "ref"), ("product.template", "default_code"),
                         ("ir.actions.server", "name"), ("ir.model.access", "name"), ("res.users", "login"), ("res.groups", "name")):
        try:
            ids = server.admin(model, "search", [[field, "=like", "contract%"]], context={"active_test": False})
            if ids:
                server.admin(model, "unlink", ids)
        except RuntimeError as error:
            print(f"note: leftovers of {model} stay: {str(error)[:200]}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", required=True)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--junit")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    with open(options.env) as file:
        env = dict(line.strip().split("=", 1) for line in file if "=" in line and not line.startswith("#"))
    server = Server(env)
    if options.record and server.is_standin:
        parser.error("only a real server can be recorded")
    series = str(server.series)
    results = []
    if not options.list:
        sweep(server)
    token = format(int(time.time() * 1000) % 10**9, "09d")
    for path in sorted((HERE / "cases").glob("*.json")):
        cases = json.loads(path.read_text())["cases"]
        recorded_path = HERE / "recorded" / path.name
        recorded = json.loads(recorded_path.read_text()) if recorded_path.exists() else {}
        for case in cases:
            if server.series not in case.get("series", [14, 19]):
                continue
            if server.is_standin and case.get("real"):
                continue
            if options.case and not any(wanted in case["id"] for wanted in options.case):
                continue
            name = f"Contract.{case['id']}/{server.name}"
            if options.list:
                print(name)
                continue
            began = time.monotonic()
            # Keys of imports and logins stay known when their records are gone: each case has its own.
            run = CaseRun(server, case, token + (format(len(results), "03d") if case.get("setup") else ""))
            problem = None
            try:
                run.run()
                if server.is_standin and series not in recorded.get(case["id"], {}):
                    raise Mismatch("never recorded on a real server of this series")
            except Exception as error:
                problem = str(error) if isinstance(error, Mismatch) else "".join(traceback.format_exception_only(error)).strip()
            results.append((name, time.monotonic() - began, problem))
            print(("FAIL " if problem else "ok   ") + name + (": " + problem if problem else ""), flush=True)
            if options.record and not problem:
                recorded.setdefault(case["id"], {})[series] = {
                    "server": server.jsonrpc({"service": "common", "method": "version", "args": []}).value["server_version"],
                    "date": datetime.date.today().isoformat(), "answers": shorten(run.answers)}
        if options.record:
            recorded = {case["id"]: recorded[case["id"]] for case in cases if case["id"] in recorded}
            recorded_path.parent.mkdir(exist_ok=True)
            recorded_path.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    if options.list:
        return 0
    failed = sum(1 for _, _, problem in results if problem)
    if options.junit:
        quote = xml.sax.saxutils.quoteattr
        with open(options.junit, "w") as out:
            out.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites tests="{len(results)}" failures="{failed}">\n'
                      f'<testsuite name="Contract" tests="{len(results)}" failures="{failed}">\n')
            for name, seconds, problem in results:
                out.write(f'<testcase classname="Contract" name={quote(name.split(".", 1)[1])} time="{seconds:.3f}">')
                if problem:
                    out.write(f"<failure message={quote(problem[:2000])}/>")
                out.write("</testcase>\n")
            out.write("</testsuite>\n</testsuites>\n")
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Drives the hub's own program as a user would: its audit log, checked without any code of the hub, and its messages to
people, checked with the official JavaScript library of Standard Webhooks.

Prints 'PASS name', 'FAIL name: why' or 'SKIP name: why' per test, for ./dev test. The program is build/asan/dragoman, or
DRAGOMAN_BIN. Arguments: only tests whose name holds one of them.
"""
import hashlib
import http.server
import json
import os
import pathlib
import queue
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
HUB = os.environ.get("DRAGOMAN_BIN") or str(ROOT / "build" / "asan" / "dragoman")
CACHE = pathlib.Path(os.environ.get("DRAGOMAN_CACHE") or pathlib.Path.home() / ".cache" / "dragoman")
LIBRARY = "standardwebhooks@1.0.0"


class Hub:
    """Commands on a data folder of its own, without a running hub."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("ODOO_", "DRAGOMAN_"))}
        self.environment.update(settings, no_proxy="127.0.0.1")

    def run(self, *words, code=0):
        done = subprocess.run([HUB, *words, "--data-dir", str(self.folder / "data")], env=self.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def secret(self, text):
        file = self.folder / "secret"
        file.write_text(text + "\n")
        return str(file)

    def json(self, *words, code=0):
        return json.loads(self.run(*words, "--json", code=code))

    def database(self):
        return sqlite3.connect(self.folder / "data" / "dragoman.db")


def some_history(hub):
    secret = hub.secret("open sesame 4711")
    hub.run("connection", "add", "main", "--url", "http://user:hidden@127.0.0.1:9", "--database", "shop", "--login", "ann",
            "--secret-file", secret, code=65)
    hub.run("connection", "add", "main", "--url", "http://127.0.0.1:9", "--database", "shop", "--login", "ann",
            "--secret-file", secret, "--reason", "größere Änderung, \"quoted\"\nsecond line")
    hub.run("connection", "pause", "main", "--reason", "stocktaking")
    hub.run("connection", "resume", "main")
    hub.run("connection", "pause", "nobody", code=65)
    hub.run("connection", "update", "main", "--login", "bob", "--secret-file", secret)
    hub.run("token", "create", "till", "--role", "user")


def hash_of(line):
    """As docs/reference/audit.md has it, and nothing of the hub's own."""
    parts = [line["previous"], str(line["number"]), line["at"], line["actor"], line["action"], line["subject"],
             line["why"], line["outcome"], line["before"], line["after"]]
    data = b"".join(b"%d:%s," % (len(part.encode()), part.encode()) for part in parts)
    return hashlib.sha256(data).hexdigest()


def check_export(text):
    lines = [json.loads(line) for line in text.splitlines()]
    before = "0" * 64
    for number, line in enumerate(lines, 1):
        assert line["number"] == number, f"entry {number} is {line['number']}"
        assert line["previous"] == before, f"entry {number} does not go on from the one before"
        assert hash_of(line) == line["hash"], f"entry {number} does not have its hash"
        before = line["hash"]
    return lines, before


def export_is_checked_elsewhere(folder):
    hub = Hub(folder)
    some_history(hub)
    text = hub.run("audit", "export")
    lines, end = check_export(text)
    assert hub.run("audit", "export", "--page", "2") == text, "in pages it is another export"
    verdict = hub.json("audit", "verify")
    assert verdict["ok"] and verdict["entries"] == len(lines) and verdict["hash"] == end, verdict
    assert hub.json("audit", "verify", "--number", str(len(lines)), "--hash", end)["ok"]
    assert [line["action"] for line in lines] == [
        "connection.add", "connection.add", "connection.pause", "connection.resume", "connection.pause", "connection.update", "token.create"]
    assert all(line["actor"].startswith("command line (") for line in lines), lines[0]["actor"]
    assert lines[0]["outcome"].startswith("refused: ") and "user:***@" in lines[0]["after"], lines[0]
    assert lines[1]["why"] == "größere Änderung, \"quoted\"\nsecond line", lines[1]["why"]
    assert lines[2]["why"] == "stocktaking" and json.loads(lines[2]["before"])["state"] == "active", lines[2]
    assert lines[4]["outcome"].startswith("refused: "), lines[4]["outcome"]
    changed = json.loads(lines[5]["before"])["settings"], json.loads(lines[5]["after"])["settings"]
    assert [one["login"] for one in changed] == ["ann", "bob"], changed
    for secret in ("sesame", "hidden"):
        assert secret not in text, f"the export shows a secret: {text}"
    some = hub.run("audit", "export", "--action", "connection.*", "--subject", "main").splitlines()
    assert [json.loads(line)["number"] for line in some] == [1, 2, 3, 4, 6], some
    listed = hub.json("audit", "list", "--limit", "2")["entries"]
    assert [entry["number"] for entry in listed] == [7, 6], listed
    return f"{len(lines)} entries"


def tampering_ends_with_1(folder):
    hub = Hub(folder)
    some_history(hub)
    hub.run("audit", "verify")
    with hub.database() as database:
        database.execute("UPDATE audit SET actor = 'nobody' WHERE number = 3")
    database.close()
    verdict = hub.json("audit", "verify", code=1)
    assert not verdict["ok"] and verdict["broken_at"] == 3 and verdict["what"] == "changed", verdict
    problems = hub.json("notification", "list")["problems"]
    assert [one["fingerprint"] for one in problems] == ["audit:broken"], problems
    assert problems[0]["severity"] == "critical" and problems[0]["state"] == "untold", problems
    return verdict["problem"]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Hands on what is posted."""
    seen = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.put(({k.lower(): v for k, v in self.headers.items()}, body.decode()))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


VERIFY = r"""
import {createRequire} from 'node:module';
const require = createRequire(process.argv[1] + '/');
const {Webhook} = require('standardwebhooks');
const {headers, body} = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const refused = (secret, text, changed) => {
  try { new Webhook(secret).verify(text, {...headers, ...changed}); return false; } catch { return true; }
};
const [mine, other] = process.argv.slice(2);
new Webhook(mine).verify(body, headers);
if (!refused(other, body, {})) throw new Error('another key was taken');
if (!refused(mine, body + ' ', {})) throw new Error('another body was taken');
if (!refused(mine, body, {'webhook-id': 'msg_x'})) throw new Error('another id was taken');
if (!refused(mine, body, {'webhook-timestamp': String(Number(headers['webhook-timestamp']) + 1)})) throw new Error('another time was taken');
console.log('verified');
"""


def library():
    """The node to run with and the folder of the library, which is put into the cache the first time."""
    node = subprocess.run([str(ROOT / "tools/node.sh")], capture_output=True, text=True, check=True).stdout.strip()
    home = CACHE / "webhooks"
    if not (home / "node_modules/standardwebhooks/package.json").exists():
        home.mkdir(parents=True, exist_ok=True)
        if not shutil.which("npm"):
            subprocess.run([str(ROOT / "tools/setup.sh"), "npm"], check=True, stdin=subprocess.DEVNULL)
        done = subprocess.run(["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--no-save", "--ignore-scripts",
                               LIBRARY], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"npm could not install {LIBRARY}: {done.stderr[-600:]}"
    return node, home


def webhook_is_verified_by_the_official_library(folder):
    node, home = library()
    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mine, other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    try:
        hub = Hub(folder, DRAGOMAN_NOTIFY_WEBHOOK_URL=f"http://127.0.0.1:{server.server_port}/hook",
                  DRAGOMAN_NOTIFY_WEBHOOK_SECRET=f"whsec_{'A' * 32},{mine}")
        hub.run("token", "create", "first", code=65)  # no store yet: only what begins something makes one
        hub.run("connection", "add", "main", "--url", "http://127.0.0.1:9", "--database", "shop", "--login", "ann",
                "--secret-file", hub.secret("open sesame"))
        tried = hub.json("notification", "test")
        assert tried["ok"], tried
        headers, body = Receiver.seen.get(timeout=60)
        assert json.loads(body)["type"] == "alert.test", body
        said = subprocess.run([node, "--input-type=module", "-e", VERIFY, str(home), mine, other],
                              input=json.dumps({"headers": headers, "body": body}), capture_output=True, text=True)
        assert said.stdout.strip() == "verified", said.stdout + said.stderr
        shown = hub.run("config", "show")
        assert mine not in shown and "***" in shown, "config show tells the webhook's key"
    finally:
        server.shutdown()
        server.server_close()
    return "signature of two keys"


def test_button_tells_what_is_wrong(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        port = taken.getsockname()[1]
        hub = Hub(folder, DRAGOMAN_NOTIFY_EMAIL_HOST="127.0.0.1", DRAGOMAN_NOTIFY_EMAIL_PORT=str(port),
                  DRAGOMAN_NOTIFY_EMAIL_FROM="hub@example.com", DRAGOMAN_NOTIFY_EMAIL_TO="ann@example.com, bob@example.com",
                  DRAGOMAN_NOTIFY_EMAIL_USER="hub", DRAGOMAN_NOTIFY_EMAIL_PASSWORD="hidden")
        hub.run("connection", "add", "main", "--url", "http://127.0.0.1:9", "--database", "shop", "--login", "ann",
                "--secret-file", hub.secret("open sesame"))
        tried = hub.json("notification", "test", code=1)
        assert not tried["ok"] and "Connection refused" in tried["channels"][0]["result"], tried
        assert "hidden" not in hub.run("config", "show") + hub.run("audit", "export")
    nothing = Hub(folder)
    tried = nothing.json("notification", "test", code=1)
    assert "notify.email_host" in tried["advice"], tried
    return tried["advice"]


def a_running_hub_tells_at_once_and_audits_its_tokens(folder):
    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = Hub(folder, DRAGOMAN_NOTIFY_WEBHOOK_URL=f"http://127.0.0.1:{server.server_port}/hook",
              DRAGOMAN_NOTIFY_WEBHOOK_SECRET=f"whsec_{'A' * 32}")
    process = subprocess.Popen([HUB, "run", "--data-dir", str(folder / "data"), "--listen", "127.0.0.1:0"], env=hub.environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        while not (folder / "data" / "hub.json").exists() and process.poll() is None:
            time.sleep(0.05)
        for number in range(5):
            hub.run("token", "create", f"till {number}")
        lines, _ = check_export(hub.run("audit", "export", "--page", "2"))
        assert [line["actor"] for line in lines] == ["token first admin"] * 5, lines
        with hub.database() as database:
            database.execute("DELETE FROM audit WHERE number = 2")
        database.close()
        assert hub.json("audit", "verify", code=1)["what"] == "removed"
        _, body = Receiver.seen.get(timeout=60)
        told = json.loads(body)
        assert told["type"] == "alert.first" and told["data"]["fingerprint"] == "audit:broken", body
        while hub.json("notification", "list")["problems"][0]["state"] != "sent":
            time.sleep(0.05)  # the receiver has it a moment before the hub knows
        process.terminate()
        assert process.wait(timeout=60) == 0, f"the hub ended with {process.returncode}"
    finally:
        if process.poll() is None:
            process.kill()
        server.shutdown()
        server.server_close()
    return told["data"]["title"]


TESTS = {"ARunningHubTellsAtOnceAndAuditsItsTokens": a_running_hub_tells_at_once_and_audits_its_tokens,
         "AuditExportIsCheckedElsewhere": export_is_checked_elsewhere, "TamperingEndsVerifyWith1": tampering_ends_with_1,
         "WebhookIsVerifiedByTheOfficialLibrary": webhook_is_verified_by_the_official_library,
         "TheTestButtonTellsWhatIsWrong": test_button_tells_what_is_wrong}


def main():
    patterns = [p.lower() for p in sys.argv[1:]]
    for name, test in TESTS.items():
        if patterns and not any(p in f"e2e.{name}".lower() for p in patterns):
            continue
        with tempfile.TemporaryDirectory(prefix="dragoman-e2e-") as folder:
            try:
                print(f"  {name}: {test(pathlib.Path(folder))}", file=sys.stderr, flush=True)
                print(f"PASS E2e.{name}", flush=True)
            except Exception as error:  # noqa: BLE001 - any end of a test is told as its failure
                traceback.print_exc(limit=4)
                print(f"FAIL E2e.{name}: {' '.join(str(error).split())[:1200]}", flush=True)


main()

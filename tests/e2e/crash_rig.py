"""What the crash tests are made of: a client that keeps a ledger, a proxy that loses answers, hubs that are killed, a target.

Nothing here judges: crash_judge.py does, from the client's ledger and the target's records.
"""
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import xmlrpc.client

ROOT = pathlib.Path(__file__).resolve().parents[2]
HUB = os.environ.get("DRAGOMAN_BIN") or str(ROOT / "build" / "asan" / "dragoman")
STAND_IN = os.environ.get("DRAGOMAN_SANDBOX_ODOO") or str(ROOT / "build" / "asan" / "sandbox" / "sandbox-odoo")


def free_port():
    """Below what the kernel hands out by itself, so that a hub that is started again finds it free."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(18000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def wait_until(what, seconds, why, every=0.05):
    """A wait with an end, for what another process does in its own time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not so after {seconds} s: {why() if callable(why) else why}"
        time.sleep(every)


def is_wanted(name, patterns):
    """Whether a test is asked for: its name holds one of the patterns, where there are any, and it is one of the server that
    DRAGOMAN_TEST_SERVER names, where that is set: Odoo19, Odoo14, or `none` for what needs neither."""
    server = os.environ.get("DRAGOMAN_TEST_SERVER")
    if server == "none" and re.search("Odoo(19|14)", name) or server and server != "none" and server not in name:
        return False
    return not patterns or any(p.lower() in name.lower() for p in patterns)


def read_env(path):
    return dict(line.split("=", 1) for line in pathlib.Path(path).read_text().splitlines() if "=" in line)


# --- the target -----------------------------------------------------------------------------------------------------------


class StandIn:
    """The stand-in Odoo, for the length of a `with`; its environment as a real one's."""

    def __init__(self, folder, *arguments):
        self.folder, self.arguments = pathlib.Path(folder), arguments

    def __enter__(self):
        ready = self.folder / "stand-in.env"
        self.process = subprocess.Popen([STAND_IN, "--series", "19", "--ready-file", str(ready), *self.arguments],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(lambda: ready.exists() or self.process.poll() is not None, 60, "the stand-in is not ready")
        return read_env(ready)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)


class Target:
    """The records of one run at an Odoo: those whose `ref` begins with its tag."""

    FIELDS = ("ref", "name", "function")

    def __init__(self, env):
        self.env = env
        common = xmlrpc.client.ServerProxy(env["ODOO_URL"] + "/xmlrpc/2/common")
        self.uid = common.authenticate(env["ODOO_DB"], env["ODOO_USERNAME"], env["ODOO_PASSWORD"], {})
        self.tag = f"crash{random.SystemRandom().randrange(1 << 40):010x}-"

    def call(self, model, method, *args, **kwargs):
        proxy = xmlrpc.client.ServerProxy(self.env["ODOO_URL"] + "/xmlrpc/2/object")  # one per call: threads
        return proxy.execute_kw(self.env["ODOO_DB"], self.uid, self.env["ODOO_PASSWORD"], model, method, list(args), kwargs)

    def sql(self, text):
        done = subprocess.run(["psql", self.env["ODOO_PG_URI"], "-XAtqc", text], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-500:]
        return done.stdout

    def newest(self, count):
        return self.call("res.partner", "search_read", [["ref", "=like", self.tag + "%"]], list(self.FIELDS), limit=count,
                         order="write_date desc, id desc", context={"active_test": False})

    def records(self):
        """All of them: of a real Odoo by SQL, past everything that Odoo may think."""
        if self.env.get("ODOO_PG_URI"):
            rows = self.sql("SELECT json_build_object('id', id, 'ref', ref, 'name', name, 'function', function) "
                            f"FROM res_partner WHERE ref LIKE '{self.tag}%' ORDER BY id")
            return [json.loads(line) for line in rows.splitlines()]
        found, last = [], 0
        while True:
            page = self.call("res.partner", "search_read", [["ref", "=like", self.tag + "%"], ["id", ">", last]],
                             list(self.FIELDS), limit=2000, order="id", context={"active_test": False})
            if not page:
                return found
            found += page
            last = page[-1]["id"]

    def write_records(self, path):
        with open(path, "w", encoding="utf-8") as out:
            for record in self.records():
                out.write(line_of(record) + "\n")

    def clean(self):
        if self.env.get("ODOO_PG_URI"):
            ids = sorted((r["id"] for r in self.records()), reverse=True)  # children before their parents
            for at in range(0, len(ids), 200):
                self.call("res.partner", "unlink", ids[at:at + 200])


def line_of(record):
    return json.dumps({"key": record["ref"], "id": record["id"], "values": {name: record[name] for name in Target.FIELDS}})


class Watcher(threading.Thread):
    """Looks at the target's newest records now and then, and writes down what it sees."""

    def __init__(self, target, path):
        super().__init__(daemon=True)
        self.target, self.path, self.ended, self.failed = target, path, threading.Event(), None

    def run(self):
        with open(self.path, "w", encoding="utf-8") as out:
            while not self.ended.wait(0.4):
                try:
                    for record in self.target.newest(80):
                        out.write(line_of(record) + "\n")
                    out.flush()
                except Exception as error:  # noqa: BLE001 - told at the end
                    self.failed = repr(error)[:300]

    def stop(self):
        self.ended.set()
        self.join()
        assert not self.failed, f"the watcher could not look: {self.failed}"


# --- the client -----------------------------------------------------------------------------------------------------------


class Ledger:
    """Written by the client before and after each of its requests, one line of JSON each."""

    def __init__(self, path):
        self.path, self.lock, self.acked, self.last_ack = path, threading.Lock(), 0, time.monotonic()
        self.file = open(path, "w", encoding="utf-8")

    def write(self, **line):
        with self.lock:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            if "ack" in line:
                self.acked += 1
                self.last_ack = time.monotonic()

    def close(self):
        self.file.close()


class Sender(threading.Thread):
    """One client: hands in records, sends each request again with its key until it is acknowledged, then goes on."""

    def __init__(self, number, seed, ports, token, ledger, tag, per_second=25, creates=0, patience=30):
        super().__init__(daemon=True)
        self.number, self.chance = number, random.Random(seed * 1000 + number)
        self.ports, self.token, self.ledger, self.tag = ports, token, ledger, tag
        self.pause, self.creates, self.patience = 1 / per_second if per_second else 0, creates, patience
        self.enough, self.abandon = threading.Event(), threading.Event()
        self.keys, self.late, self.connection, self.sent, self.odd = {}, [], None, 0, {}
        self.acks_by_port = dict.fromkeys(ports, 0)

    def record(self, taken):
        """A new record, or a newer state of one that this client handed in before; now and then an older one, late."""
        if self.late and self.chance.random() < 0.5:
            record = self.late.pop()
            if record["key"] not in taken:
                return record
            self.late.append(record)
        free = [key for key in self.keys if key not in taken] if not self.creates else []
        if free and self.chance.random() < 0.4:
            key = self.chance.choice(free)
            versioned, children, order = self.keys[key]
        else:
            key = f"{self.tag}{self.number}-{len(self.keys)}"
            versioned, children, order = self.chance.random() < 0.5, self.chance.random() < 0.2, 0
        late = versioned and order > 0 and self.chance.random() < 0.2
        order += 2 if late else 1
        self.keys[key] = (versioned, children, order)
        if late:
            self.late.append(self.state(key, versioned, children, order - 1))
        return self.state(key, versioned, children, order)

    def state(self, key, versioned, children, order):
        stamp = f"{order}.{self.chance.randrange(1 << 30):x}"
        record = {"model": "res.partner", "key": key, "values": {"name": f"Load {key}", "ref": key, "function": stamp}, "order": order}
        if versioned:
            record["version"] = order
        if children:
            record["children"] = {"child_ids": [{"key": "c1", "values": {"name": f"Child {key}", "ref": key + "/c1", "function": stamp}}]}
        return record

    def run(self):
        while not self.enough.is_set() and not (self.creates and len(self.keys) >= self.creates):
            records, taken = [], set()
            for _ in range(1 if self.chance.random() < 0.6 else self.chance.randrange(2, 6)):
                if self.creates and len(self.keys) >= self.creates:
                    break
                records.append(self.record(taken))
                taken.add(records[-1]["key"])
            offered = []
            for record in records:
                order = record["order"]
                offered.append({"key": record["key"], "order": order, "values": record["values"]})
                for child in record.get("children", {}).get("child_ids", []):
                    offered.append({"key": child["values"]["ref"], "order": order, "values": child["values"]})
            request = f"{self.tag}{self.number}-r{self.sent}"
            self.sent += 1
            self.ledger.write(offer=request, records=offered)
            body = [{name: value for name, value in record.items() if name != "order"} for record in records]
            self.hand_in(request, json.dumps(body[0] if len(body) == 1 else {"records": body}))
            if self.pause:
                self.enough.wait(self.pause * self.chance.uniform(0.5, 1.5))
        if self.connection:
            self.connection.close()

    def hand_in(self, request, body):
        while not self.abandon.is_set():
            port = self.ports[self.chance.randrange(len(self.ports))]
            try:
                if not self.connection or self.connection.port != port:
                    self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=self.patience)
                self.connection.request("POST", "/api/v1/inbox/main", body, {
                    "Authorization": f"Bearer {self.token}", "Content-Type": "application/json", "Idempotency-Key": request})
                answer = self.connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                self.connection = None
                self.abandon.wait(0.05)
                continue
            if answer.status == 202:
                self.ledger.write(ack=request)
                self.acks_by_port[port] += 1
                return
            self.odd[answer.status] = self.odd.get(answer.status, 0) + 1
            if answer.status in (400, 401, 403, 404, 413, 422):
                self.ledger.write(refused=request, why=f"{answer.status} {text[:300]!r}")
                return
            self.abandon.wait(0.1)


class Load:
    def __init__(self, folder, seed, ports, token, tag, clients=4, **more):
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.senders = [Sender(n, seed, ports, token, self.ledger, tag, **more) for n in range(clients)]
        for sender in self.senders:
            sender.start()

    def finish(self, seconds=60):
        """Everything that was begun gets its acknowledgement."""
        for sender in self.senders:
            if not sender.creates:
                sender.enough.set()
        deadline = time.monotonic() + seconds
        for sender in self.senders:
            sender.join(max(0, deadline - time.monotonic()))
        hanging = [sender.number for sender in self.senders if sender.is_alive()]
        odd = {status: sum(s.odd.get(status, 0) for s in self.senders) for s in self.senders for status in s.odd}
        self.abandon()
        assert not hanging, f"clients {hanging} got no acknowledgement for {seconds} s; other answers: {odd}"
        return odd

    def abandon(self):
        for sender in self.senders:
            sender.enough.set()
            sender.abandon.set()
        for sender in self.senders:
            sender.join(60)
        self.ledger.close()


# --- between hub and target -----------------------------------------------------------------------------------------------


def reset(connection):
    """Ends a connection the way a crashed machine does: not a word, then a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class HttpProxy:
    """Passes requests on to an Odoo, one per connection. `decide(kind)` says what is lost of each.

    kind   `deliver` or `find` for calls of the import procedure, else `other`.
    decide pass, reset_before (never reaches Odoo), reset_after (done there, the answer is lost), or hold_before: a number of
           seconds without an answer, never reaches Odoo.
    """

    def __init__(self, upstream_url, decide=lambda kind: "pass"):
        self.host, self.port_up = re.match(r"http://([^:/]+):(\d+)", upstream_url).groups()
        self.decide, self.counts, self.lock = decide, {}, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, client):
        try:
            client.settimeout(600)
            request = self.read_message(client)
            if not request:
                return client.close()
            kind = "other"
            if b"dragoman" in request:
                kind = "find" if re.search(rb'"find"\s*:', request) else "deliver" if re.search(rb'"items"\s*:', request) else "other"
            what = self.decide(kind)
            with self.lock:
                name = what if isinstance(what, str) else "hold_before"
                self.counts[kind, name] = self.counts.get((kind, name), 0) + 1
            if name == "hold_before":
                time.sleep(what)
                return reset(client)
            if name == "reset_before":
                return reset(client)
            upstream = socket.create_connection((self.host, int(self.port_up)), timeout=600)
            try:
                upstream.sendall(self.closing(request))
                answer = self.read_message(upstream)
            finally:
                upstream.close()
            if name == "reset_after":
                return reset(client)
            client.sendall(answer)
            client.close()
        except OSError:
            client.close()

    @staticmethod
    def closing(request):
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
        return b"\r\n".join(lines + [b"Connection: close"]) + b"\r\n\r\n" + body

    @staticmethod
    def read_message(connection):
        """A message with its body: by its length, or to the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return data
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        if re.search(rb"(?im)^expect:\s*100-continue", head):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
        response = head.startswith(b"HTTP/")
        parts, got = [body], len(body)
        while (got < int(length.group(1))) if length else response:
            part = connection.recv(1 << 20)
            if not part:
                break
            parts.append(part)
            got += len(part)
        return head + b"\r\n\r\n" + b"".join(parts)


class TcpProxy:
    """Passes bytes on to a server; cut() ends what is open, and while it is `closed` nobody gets through."""

    def __init__(self, port_up):
        self.port_up, self.closed, self.open, self.lock = port_up, False, set(), threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.closed:
                    raise OSError
                upstream = socket.create_connection(("127.0.0.1", self.port_up), timeout=5)
                upstream.settimeout(None)
            except OSError:
                reset(client)
                continue
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.open |= {client, upstream}
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self.pass_on, args=(source, sink), daemon=True).start()

    def pass_on(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self.lock:
            self.open.discard(source)
        source.close()

    def cut(self):
        with self.lock:
            cut = list(self.open)
        for one in cut:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return len(cut) // 2

    def close(self):
        self.closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


# --- the hub --------------------------------------------------------------------------------------------------------------


class Hub:
    """The program on a data folder and a port of its own, started and killed as often as a test likes."""

    def __init__(self, folder, odoo=None, store="", name="hub", settings=None):
        self.folder, self.name, self.port = pathlib.Path(folder), name, free_port()
        self.data = self.folder / name
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("ODOO_", "DRAGOMAN_"))}
        self.environment.update(DRAGOMAN_HTTP_RATE_PER_SECOND="0", **(settings or {}))
        if store:
            self.environment["DRAGOMAN_STORE_URL"] = store
        self.connection = odoo or {}
        self.process = None

    def start(self, kill_at=""):
        environment = {**self.environment, **self.connection}
        if kill_at:
            environment["DRAGOMAN_KILL_AT"] = kill_at
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen([HUB, "run", "--data-dir", str(self.data), "--listen", f"127.0.0.1:{self.port}"],
                                            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def lives(self):
        return self.process is not None and self.process.poll() is None

    def healthy(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def ready(self, seconds=60):
        wait_until(lambda: self.healthy() or not self.lives(), seconds, lambda: f"{self.name} does not answer: {self.tail()}")
        return self.lives()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.lives():
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            assert code == 0, f"{self.name} ended with {code}: {self.tail()}"

    def end(self):
        """Whatever state it is in."""
        if self.lives():
            self.kill()

    def tail(self, size=1500):
        path = self.folder / f"{self.name}.log"
        return path.read_text(errors="replace")[-size:] if path.exists() else "(no log)"

    def token(self):
        return (self.data / "token").read_text().strip()

    def ask(self, *words, codes=(0,)):
        done = subprocess.run([HUB, *words, "--data-dir", str(self.data), "--json"], env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=600)
        assert done.returncode in codes, f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-800:]} {self.tail()}"
        return json.loads(done.stdout)

    def provision(self, env, *words):
        """The procedures in Odoo, with the administrator's login of the test's own."""
        secret = self.folder / "admin-password"
        secret.write_text(env["ODOO_PASSWORD"])
        return self.ask("provision", "apply", "main", "--admin-login", env["ODOO_USERNAME"], "--admin-password-file", str(secret), *words)

    def retry_suspects(self):
        """What a person would do: a job that was there at death after death is set aside as if it were the cause, and here it
        was not. How many; other dead letters are left alone."""
        count = 0
        for group in self.ask("job", "groups")["groups"]:
            if group["code"] == "poison":
                count += self.ask("job", "retry-group", group["group"])["jobs"]
        return count

    def jobs_by_state(self):
        """How many jobs are in which state, read from the file itself."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'dragoman.db'}?mode=ro", uri=True, timeout=10)) as db:
            return dict(db.execute("SELECT state, count(*) FROM job GROUP BY state"))

    def dead_letters(self):
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'dragoman.db'}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute("SELECT error_code, error_message, count(*) FROM job WHERE state = 6 GROUP BY 1, 2 LIMIT 5").fetchall()


class Pair:
    """A PostgreSQL primary that confirms nothing before its standby has it, for the length of a `with`."""

    def __enter__(self):
        said = self.run("pair")
        values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        self.dir, self.url = values["DRAGOMAN_TEST_PG_PAIR_DIR"], values["DRAGOMAN_TEST_PG_PAIR"]
        self.login, first, second = re.match(r"postgresql://([^@]+)@127\.0\.0\.1:(\d+),127\.0\.0\.1:(\d+)/", self.url).groups()
        self.ports = int(first), int(second)
        return self

    def __exit__(self, *_):
        self.run("stop-pair", self.dir)

    @staticmethod
    def run(*words):
        done = subprocess.run([str(ROOT / "tools" / "pg.sh"), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"tools/pg.sh {words[0]}: {done.stderr[-500:]}"
        return done.stdout

    def through(self, first, second):
        """The address of both, through proxies."""
        return f"postgresql://{self.login}@127.0.0.1:{first},127.0.0.1:{second}/postgres?target_session_attrs=read-write&connect_timeout=5"

    def fail_over(self, proxies):
        """The primary's machine is gone: nothing listens there any more. (A forwarder that went on accepting, and closed,
        would keep libpq from asking the second host.)"""
        self.run("kill", self.dir + "/primary")
        for proxy in proxies:
            proxy.close()
        self.run("promote", self.dir + "/standby")

    def query(self, sql):
        done = subprocess.run(["psql", self.url, "-XAtqF", "\t", "-c", sql], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr[-500:]
        return [line.split("\t") for line in done.stdout.splitlines()]


def judge(folder, target, seen=True):
    """The verdict of the program that shares nothing with the hub."""
    records = folder / "records.jsonl"
    target.write_records(records)
    command = [sys.executable, str(ROOT / "tests" / "e2e" / "crash_judge.py"), str(folder / "ledger.jsonl"), str(records)]
    done = subprocess.run(command + ([str(folder / "seen.jsonl")] if seen else []), capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1) and done.stdout, f"the judge failed: {done.stderr[-800:]}"
    return json.loads(done.stdout)

#!/usr/bin/env python3
"""Kills hubs under load and lets crash_judge.py say whether anything acknowledged was lost, done twice or undone.

Prints 'PASS name', 'FAIL name: why' or 'SKIP name: why' per test, for ./dev test; what was measured goes to standard error.
The programs are build/asan/dragoman and build/asan/sandbox/sandbox-odoo, or DRAGOMAN_BIN and DRAGOMAN_SANDBOX_ODOO. A real
server comes in DRAGOMAN_TEST_ODOO19_ENV. Arguments: only tests whose name holds one of them. DRAGOMAN_SEED replays the load,
the faults and the choice of kills; DRAGOMAN_FULL=1 makes it long, DRAGOMAN_KILLS=5000 longer still.
"""
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from crash_rig import HUB, HttpProxy, Hub, Load, Pair, StandIn, Target, TcpProxy, Watcher, is_wanted, judge, read_env, wait_until  # noqa: E402

SEED = int(os.environ.get("DRAGOMAN_SEED") or random.randrange(1_000_000))
FULL = bool(os.environ.get("DRAGOMAN_FULL"))
KILLS = int(os.environ.get("DRAGOMAN_KILLS") or (200 if FULL else 50))

# Where the hub ends itself (src/base/step.h), and how many times it passes there at most before it does.
STEPS = {"intake.before_store": 12, "intake.stored": 12, "queue.claimed": 6, "deliver.begun": 6, "deliver.intended": 6,
         "deliver.sent": 6, "finish.before_commit": 6, "finish.committed": 6}
# Two more from outside: while Odoo works on a call (it goes on and commits after the death), and at any moment.
UNDER_WAY, ANY = "send.under_way", "any.moment"


def verdict(folder, target, note, seen=True):
    found = judge(folder, target, seen)
    bad = {name: found[name] for name in ("lost", "twice", "mangled", "back", "refused") if found[name]}
    assert not bad, f"{note}: {bad} {json.dumps(found['examples'])[:900]}"
    return (f"{found['acknowledged']} requests acknowledged, {found['keys']} records offered, {found['records']} there, "
            f"{found['seen']} looks: 0 lost, 0 twice, 0 mangled, 0 back")


def drained(hub, count, seconds, stuck):
    """Until nothing is left to do. Jobs that were there at death after death are tried again, as a person would have it:
    how many. Other dead letters are left for the judge to miss."""
    suspects = [0]

    def nothing_left():
        states = count()
        if states.get(6):
            suspects[0] += hub.retry_suspects()
        return not any(number for state, number in states.items() if state < 4)

    wait_until(nothing_left, seconds, lambda: f"jobs by state {count()}; {stuck()}", every=0.5)
    return suspects[0]


def killed_at_every_step(folder):
    """R1: hard kills under load, spread over every named step; each time it goes on where it was."""
    chance = random.Random(SEED)
    total = KILLS
    killed = dict.fromkeys([*STEPS, UNDER_WAY, ANY], 0)
    armed = threading.Event()

    with contextlib.ExitStack() as stack:
        env = stack.enter_context(StandIn(folder))

        def decide(kind):
            if kind == "deliver" and armed.is_set():
                armed.clear()
                hub.kill()
            return "pass"

        proxy = HttpProxy(env["ODOO_URL"], decide)
        stack.callback(proxy.close)
        target = Target(env)
        odoo = {k: env[k] for k in ("ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD")} | {"ODOO_URL": proxy.url}
        hub = Hub(folder, odoo)
        stack.callback(hub.end)
        hub.start()
        assert hub.ready(), hub.tail()
        hub.provision(env)
        load = Load(folder, SEED, [hub.port], hub.token(), target.tag)
        stack.callback(load.abandon)
        watcher = Watcher(target, folder / "seen.jsonl")
        watcher.start()

        missed = {}
        while sum(killed.values()) < total:
            step = min(killed, key=lambda name: (killed[name] + missed.get(name, 0), name))
            hub.kill() if hub.lives() else None
            hub.start(kill_at=f"{step}:{chance.randint(1, STEPS[step])}" if step in STEPS else "")
            acked = load.ledger.acked
            if step == UNDER_WAY:
                armed.set()
            elif step == ANY:
                if hub.ready():
                    time.sleep(chance.uniform(0, 1))  # the moment is the test's subject
                    hub.kill()
                    killed[ANY] += 1
                continue
            try:
                wait_until(lambda: not hub.lives(), 25, "not killed")
            except AssertionError:
                # Not reached this time; it is tried again. A step that is never reached fails below.
                armed.clear()
                missed[step] = missed.get(step, 0) + 1
                assert missed[step] < 8, f"{step} was not reached; {load.ledger.acked - acked} requests were acknowledged meanwhile"
                continue
            assert hub.process.returncode == -signal.SIGKILL, f"ended with {hub.process.returncode}: {hub.tail()}"
            killed[step] += 1

        began = time.monotonic()
        hub.start()
        assert hub.ready(), hub.tail()
        load.finish()
        suspects = drained(hub, hub.jobs_by_state, 180, lambda: f"dead: {hub.dead_letters()}")
        seconds = time.monotonic() - began
        watcher.stop()
        hub.stop()
        told = verdict(folder, target, f"kills {killed}, dead letters {hub.dead_letters()}")
        assert all(killed.values()), f"a step without a kill: {killed}"
        return f"{sum(killed.values())} kills ({', '.join(f'{n} {c}' for n, c in killed.items())}); all done {seconds:.1f} s after the last, {suspects} set aside as suspects and tried again: {told}"


def lost_answers(env, folder, creates, timeout_seconds, clients=8, per_second=0, calls_a_round=20):
    """R2: creates whose answers are lost, of each round of calls two after Odoo has committed (10 % of 20), and one that
    never reaches it and times out (5 %): each record is there once."""
    chance, lock, deck = random.Random(SEED), threading.Lock(), []

    def decide(kind):
        if kind != "deliver":
            return "pass"
        with lock:
            if not deck:
                deck.extend(["reset_after"] * 2 + [timeout_seconds + 1] + ["pass"] * (calls_a_round - 3))
                chance.shuffle(deck)
            return deck.pop()

    with contextlib.ExitStack() as stack:
        proxy = HttpProxy(env["ODOO_URL"], decide)
        stack.callback(proxy.close)
        target = Target(env)
        stack.callback(target.clean)
        odoo = {k: env[k] for k in ("ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD")} | {"ODOO_URL": proxy.url}
        hub = Hub(folder, odoo)
        stack.callback(hub.end)
        hub.start()
        assert hub.ready(), hub.tail()
        hub.provision(env)
        hub.ask("connection", "update", "main", "--timeout-seconds", str(timeout_seconds))
        load = Load(folder, SEED, [hub.port], hub.token(), target.tag, clients=clients, per_second=per_second, creates=creates // clients)
        stack.callback(load.abandon)
        load.finish(600)
        drained(hub, hub.jobs_by_state, 600, lambda: f"dead: {hub.dead_letters()}; calls {proxy.counts}; {hub.tail()}")
        hub.stop()
        told = verdict(folder, target, f"calls {proxy.counts}, dead letters {hub.dead_letters()}", seen=False)
        there = [r for r in target.records() if not r["ref"].endswith("/c1")]
        assert len(there) == creates, f"{len(there)} records instead of {creates}"
        calls = {f"{kind} {what}": n for (kind, what), n in sorted(proxy.counts.items()) if kind != "other"}
        assert calls.get("deliver reset_after") and calls.get("deliver hold_before"), f"no answer was lost: {calls}"
        return f"{creates} creates, exactly {len(there)} records; calls {calls}; {told}"


def nodes_survive(folder):
    """Three hubs on a PostgreSQL pair: killed at steps, stopped past their lease, cut off, and the primary lost for good."""
    chance = random.Random(SEED)
    lease = 4
    with contextlib.ExitStack() as stack:
        pair = stack.enter_context(Pair())
        env = stack.enter_context(StandIn(folder))
        target = Target(env)
        odoo = {k: env[k] for k in ("ODOO_URL", "ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD")}
        settings = {"DRAGOMAN_JOBS_LEASE_SECONDS": str(lease), "DRAGOMAN_SECRET_KEY": f"{chance.getrandbits(256):064x}"}
        hubs, wires = [], []
        for n in range(3):
            wire = [TcpProxy(port) for port in pair.ports]
            for proxy in wire:
                stack.callback(proxy.close)
            wires.append(wire)
            hubs.append(Hub(folder, odoo if n == 0 else None, pair.through(*(p.port for p in wire)), f"node{n}", settings))
            stack.callback(hubs[-1].end)
            hubs[-1].start()
            assert hubs[-1].ready(), hubs[-1].tail()
        wait_until(lambda: hubs[0].folder.joinpath("node0", "token").exists(), 30, "no token")
        wait_until(lambda: hubs[0].folder.joinpath("node0", "hub.json").exists(), 30, "not started")
        hubs[0].provision(env)
        load = Load(folder, SEED, [hub.port for hub in hubs], hubs[0].token(), target.tag, clients=6, per_second=15, patience=5)
        stack.callback(load.abandon)
        watcher = Watcher(target, folder / "seen.jsonl")
        watcher.start()
        told, killed = [], {}

        def acks(hub):
            return sum(sender.acks_by_port[hub.port] for sender in load.senders)

        def tail():
            return f"after {told}: " + " | ".join(f"{hub.name}: {hub.tail(500)}" for hub in hubs)

        def all_go_on(what, seconds=90):
            """Each of the nodes acknowledges again, by itself."""
            began, before = time.monotonic(), [acks(hub) for hub in hubs]
            wait_until(lambda: all(acks(hub) > old for hub, old in zip(hubs, before)), seconds, tail)
            told.append(f"{what}: all go on after {time.monotonic() - began:.1f} s")

        def restart(hub, kill_at=""):
            hub.end()
            hub.start(kill_at)

        all_go_on("start")
        steps = list(STEPS) * (5 if FULL else 1)
        chance.shuffle(steps)
        for number, step in enumerate(steps):
            hub = hubs[number % 3]
            restart(hub, f"{step}:{chance.randint(1, 4)}")
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not hub.lives(), 20, "not killed")
                killed[step] = killed.get(step, 0) + 1
            restart(hub)
        assert len(killed) == len(STEPS), f"steps without a kill: {set(STEPS) - set(killed)}; {tail()}"
        all_go_on(f"{sum(killed.values())} kills at steps")
        for _ in range(5 if FULL else 1):
            # Nobody starts it again: the others take its jobs over after its lease.
            gone = chance.choice(hubs)
            gone.kill()
            time.sleep(lease + 2)  # the length of the absence is the test's subject
            gone.start()
            all_go_on("one away for longer than its lease")
            stopped = chance.choice(hubs)
            stopped.process.send_signal(signal.SIGSTOP)
            time.sleep(2 * lease)  # as above
            stopped.process.send_signal(signal.SIGCONT)
            all_go_on("one stopped for twice its lease")
            cut = chance.choice(wires)
            for proxy in cut:
                proxy.closed = True
                proxy.cut()
            time.sleep(2)  # as above
            for proxy in cut:
                proxy.closed = False
            for wire in wires:
                for proxy in wire:
                    proxy.cut()
            all_go_on("connections cut")
        lost = time.monotonic()
        pair.fail_over([wire[0] for wire in wires])
        all_go_on("failover", 120)
        told[-1] += f", {time.monotonic() - lost:.1f} s after the primary's death"
        for hub in hubs:
            hub.kill()
        for hub in hubs:
            hub.start()
        all_go_on("all killed at once")

        odd = load.finish(120)

        def count():
            return {int(state): int(number) for state, number in pair.query("SELECT state, count(*) FROM job GROUP BY state")}

        suspects = drained(hubs[0], count, 180, tail)
        watcher.stop()
        dead = pair.query("SELECT error_code, error_message, count(*) FROM job WHERE state = 6 GROUP BY 1, 2 LIMIT 5")
        for hub in hubs:
            hub.stop()
        verdict_text = verdict(folder, target, f"{told}, dead letters {dead}")
        return f"{'; '.join(told)}; {suspects} set aside as suspects and tried again; other answers {odd}; {verdict_text}"


TESTS = {}


def test(name, server):
    def register(function):
        TESTS[f"Crash.{name}/{server}"] = function
        return function
    return register


@test("KilledAtEveryStepNothingIsLostOrDoneTwice", "StandIn19")
def _(folder):
    return killed_at_every_step(folder)


@test("LostAnswersOnCreateMakeNoSecondRecord", "StandIn19")
def _(folder):
    with StandIn(folder) as env:
        return lost_answers(env, folder, 10_000, 2)


@test("LostAnswersOnCreateMakeNoSecondRecord", "Odoo19")
def _(folder):
    path = os.environ.get("DRAGOMAN_TEST_ODOO19_ENV")
    # A busy Odoo gets them in a few big calls: slowly, and a greater share of the answers is lost.
    return lost_answers(read_env(path), folder, 504, 5, clients=4, per_second=4, calls_a_round=8) if path else None


@test("NodesOnAPairOfServersLoseNothing", "StandIn19Postgres")
def _(folder):
    return nodes_survive(folder)


def selftest(folder, store=""):
    """The command that a customer runs, as he runs it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ODOO_", "DRAGOMAN_"))}
    done = subprocess.run([HUB, "selftest", "crash", "--kills", "60" if FULL else "20", "--seed", str(SEED + 1), "--json",
                           "--data-dir", str(folder / "data"), *(["--store", store] if store else [])], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    figures = {line["name"]: line for line in lines if "name" in line}
    said = lines[-1].get("line", "") if lines else done.stderr[-500:]
    assert done.returncode == 0, f"exit code {done.returncode}: {said} {done.stdout[-1500:]}"
    steps = {name: line["value"] for name, line in figures.items() if name.startswith("killed at ")}
    assert len(steps) == len(STEPS) + 2 and all(steps.values()), f"steps {steps}"
    assert not list(folder.glob("**/dragoman_trial_*")), "it left something behind"
    return f"{sum(steps.values()):.0f} kills, {figures['records acknowledged']['value']:.0f} records: {said}"


@test("SelftestOfACustomerEndsWell", "Sqlite")
def _(folder):
    return selftest(folder)


@test("SelftestOfACustomerEndsWell", "Postgres")
def _(folder):
    store = os.environ.get("DRAGOMAN_TEST_PG")
    return selftest(folder, store) if store else None


def judged(folder, ledger, records, seen=()):
    """What the judge says of these, by violation."""
    for name, lines in (("ledger", ledger), ("records", records), ("seen", seen)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = subprocess.run([sys.executable, str(pathlib.Path(__file__).parent / "crash_judge.py"), *(str(folder / n) for n in ("ledger", "records", "seen"))],
                          capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)
    bad = {name: found[name] for name in ("lost", "twice", "mangled", "back", "refused") if found[name]}
    assert done.returncode == (1 if bad else 0), done
    return bad


@test("TheJudgeFindsWhatIsWrong", "Made")
def _(folder):
    """Else a test that it judges would show nothing."""
    def offer(request, key, order):
        return {"offer": request, "records": [{"key": key, "order": order, "values": {"v": f"{key}.{order}"}}]}

    def there(key, order, number=1):
        return {"key": key, "id": number, "values": {"v": f"{key}.{order}"}}

    ledger = [offer("r1", "a", 1), {"ack": "r1"}, offer("r2", "a", 2), {"ack": "r2"}, offer("r3", "b", 1)]
    cases = {
        "all there, the unacknowledged missing": (ledger, [there("a", 2)], (), {}),
        "all there, the unacknowledged too": (ledger, [there("a", 2), there("b", 1, 2)], [there("a", 1), there("a", 2)], {}),
        "nothing there": (ledger, [], (), {"lost": 1}),
        "an older state": (ledger, [there("a", 1)], (), {"lost": 1}),
        "two records": (ledger, [there("a", 2), there("a", 2, 2)], (), {"twice": 1}),
        "other values": (ledger, [{"key": "a", "id": 1, "values": {"v": "?"}}], (), {"mangled": 1}),
        "nobody's record": (ledger, [there("a", 2), there("c", 1, 2)], (), {"mangled": 1}),
        "went back meanwhile": (ledger, [there("a", 2)], [there("a", 2), there("a", 1), there("a", 2)], {"back": 1}),
        "refused for good": (ledger + [{"refused": "r3", "why": "422"}], [there("a", 2)], (), {"refused": 1}),
    }
    for name, (lines, records, seen, expected) in cases.items():
        assert judged(folder, lines, records, seen) == expected, f"{name}: {judged(folder, lines, records, seen)}"
    return f"{len(cases)} cases"


def main():
    patterns = sys.argv[1:]
    for name, function in TESTS.items():
        if not is_wanted(name, patterns):
            continue
        with tempfile.TemporaryDirectory(prefix="dragoman-crash-") as folder:
            began = time.monotonic()
            try:
                told = function(pathlib.Path(folder))
                if told is None:
                    print(f"SKIP {name}: its server is not up", flush=True)
                    continue
                print(f"  {name} (seed {SEED}, {time.monotonic() - began:.0f} s): {told}", file=sys.stderr, flush=True)
                print(f"PASS {name}", flush=True)
            except Exception as error:  # noqa: BLE001 - any end of a test is told as its failure
                traceback.print_exc(limit=6)
                keep = os.environ.get("DRAGOMAN_KEEP")
                if keep:
                    subprocess.run(["cp", "-r", folder, keep], check=False)
                print(f"FAIL {name}: seed {SEED}: {' '.join(str(error).split())[:1500]}", flush=True)


if __name__ == "__main__":
    main()

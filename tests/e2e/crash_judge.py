#!/usr/bin/env python3
"""Says whether what was acknowledged is at the target, once, whole and in its order.

    crash_judge.py LEDGER RECORDS [SEEN]

A program of its own that knows nothing of the hub and shares no code with it. Its inputs are lines of JSON:
LEDGER   what a client offered and what was acknowledged, written by the client before and after each of its requests:
         {"offer": REQUEST, "records": [{"key", "order", "values"}…]}   {"ack": REQUEST}   {"refused": REQUEST, "why"}
         `order` grows with every newer state of a key. The last value that counts is the one of the greatest order.
RECORDS  what is at the target in the end: {"key", "id", "values"} for each record there.
SEEN     what was at the target meanwhile, as somebody saw it who looked now and then: {"key", "values"} in the order seen.

Prints one JSON object: counts, and every violation by name. Exit code 1 if there is one.
lost      acknowledged, and at the target there is nothing, or only an older state
twice     two records with one key
mangled   values that nobody ever offered for that key, or a record that nobody offered
back      seen going from a newer state to an older one
refused   a request that should have been taken in was refused for good
"""
import json
import sys


def lines(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):  # the last may be cut: whoever wrote it was killed
                yield json.loads(line)


def same(offered, there):
    return all(there.get(name) == value for name, value in offered.items())


class Judge:
    def __init__(self):
        self.offers = {}  # key -> order -> values
        self.requests = {}  # request -> [(key, order)]
        self.acked = {}  # key -> greatest order acknowledged
        self.acks = set()
        self.found = {name: [] for name in ("lost", "twice", "mangled", "back", "refused")}

    def read_ledger(self, path):
        for line in lines(path):
            if "offer" in line:
                mine = self.requests.setdefault(line["offer"], [])
                if not mine:
                    for record in line["records"]:
                        self.offers.setdefault(record["key"], {})[record["order"]] = record["values"]
                        mine.append((record["key"], record["order"]))
            elif "ack" in line:
                self.acks.add(line["ack"])
                for key, order in self.requests[line["ack"]]:
                    self.acked[key] = max(order, self.acked.get(key, 0))
            elif "refused" in line:
                self.found["refused"].append(f"{line['refused']}: {line.get('why')}")

    def order_of(self, key, values):
        """The greatest order that has these values; 0: none has."""
        return max((order for order, offered in self.offers.get(key, {}).items() if same(offered, values)), default=0)

    def judge_records(self, path):
        there = {}
        for record in lines(path):
            key = record["key"]
            if key in there:
                self.found["twice"].append(f"{key}: records {there[key]['id']} and {record['id']}")
            there[key] = record
            order = self.order_of(key, record["values"])
            if order == 0:
                self.found["mangled"].append(f"{key}: {json.dumps(record['values'])} was never offered")
            elif order < self.acked.get(key, 0):
                self.found["lost"].append(f"{key}: state {order} is there, {self.acked[key]} was acknowledged")
        for key, order in self.acked.items():
            if key not in there:
                self.found["lost"].append(f"{key}: not there, state {order} was acknowledged")
        return there

    def judge_seen(self, path):
        newest, count = {}, 0
        for record in lines(path):
            count += 1
            order = self.order_of(record["key"], record["values"])
            if order == 0:
                self.found["mangled"].append(f"{record['key']}: seen with {json.dumps(record['values'])}, never offered")
            if order < newest.get(record["key"], 0):
                self.found["back"].append(f"{record['key']}: from state {newest[record['key']]} to {order}")
            newest[record["key"]] = max(order, newest.get(record["key"], 0))
        return count


def main(ledger, records, seen=None):
    judge = Judge()
    judge.read_ledger(ledger)
    there = judge.judge_records(records)
    looks = judge.judge_seen(seen) if seen else 0
    bad = {name: len(found) for name, found in judge.found.items()}
    print(json.dumps({"requests": len(judge.requests), "acknowledged": len(judge.acks), "keys": len(judge.offers),
                      "records": len(there), "seen": looks, **bad,
                      "examples": {name: found[:5] for name, found in judge.found.items() if found}}))
    return 1 if any(bad.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

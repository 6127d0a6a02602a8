#!/usr/bin/env python3
"""Holds docs/requirements.md to the tests that just ran (build/test-results/summary.json). Its head explains the columns.

Prints PASS or FAIL per rule; a row that claims more than the tests showed is a failure.
"""
import fnmatch
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "requirements.md"
SUMMARY = ROOT / "build" / "test-results" / "summary.json"
NUMBERS = {
    "STG": "1-6 10-12 20-25 30-33 40-41",
    "MKT": "1-4 10-16 20-23 30-35 40-41 50-52 60-61 70",
    "PRD": "1-5 10-16 20-23 30 40",
    "RTL": "1-8 10 20-21 30-33 40-42 50-52 60 70 80-81 90-91",
}
REAL = {"no": [], "19": ["Odoo19"], "14": ["Odoo14"], "19 + 14": ["Odoo19", "Odoo14"]}


def all_ids():
    ids = []
    for area, ranges in NUMBERS.items():
        for part in ranges.split():
            first, _, last = part.partition("-")
            ids += [f"{area}-{number}" for number in range(int(first), int(last or first) + 1)]
    return ids


def read_rows(text):
    """The table rows of the page: (line number, cells)."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"^\|\s*[A-Z]{3}-\d+\s*\|", line):
            # A | inside a cell is written \|, as Markdown wants it.
            yield number, [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def check_page(text):
    """What is wrong with the page itself, whatever ran."""
    problems, seen = [], []
    for number, cells in read_rows(text):
        if len(cells) != 6:
            problems.append(f"line {number}: {cells[0]} has {len(cells)} cells, not 6")
            continue
        identifier, required, real, state, where, tests = cells
        seen.append(identifier)
        if not required:
            problems.append(f"{identifier} does not say what is required")
        if real not in REAL:
            problems.append(f"{identifier}: real is '{real}', not one of {', '.join(REAL)}")
        if not re.match(r"^(built|not yet|partly: .+)$", state):
            problems.append(f"{identifier}: state is '{state}', not built, 'partly: what is missing' or not yet")
        if state != "not yet":
            if not re.findall(r"`([^`]+)`", where):
                problems.append(f"{identifier} is {state.split(':')[0]} and does not say where")
            if not re.findall(r"`([^`]+)`", tests):
                problems.append(f"{identifier} is {state.split(':')[0]} and names no test")
        for path in re.findall(r"`([^`]+)`", where):
            if not (ROOT / path).exists():
                problems.append(f"{identifier}: there is no {path}")
    expected = all_ids()
    problems += [f"{identifier} has no row" for identifier in expected if identifier not in seen]
    problems += [f"{identifier} is not a known number" for identifier in seen if identifier not in expected]
    problems += [f"{identifier} has more than one row" for identifier in sorted(set(seen)) if seen.count(identifier) > 1]
    return problems


def check_tests(text, ran):
    """What the rows claim and the tests did not show."""
    problems = []
    for _, cells in read_rows(text):
        if len(cells) != 6 or cells[3] == "not yet":
            continue
        identifier, _, real, state, _, tests = cells
        proven = set()
        for pattern in re.findall(r"`([^`]+)`", tests):
            matching = [test for test in ran if fnmatch.fnmatchcase(test["name"], pattern)]
            if not matching:
                problems.append(f"{identifier}: no test '{pattern}' ran; it does not exist, or was not part of this run")
            shown = set()
            for test in matching:
                if test["outcome"] == "passed":
                    shown.update(server for server in ("Odoo19", "Odoo14") if server in test["name"])
                else:
                    problems.append(f"{identifier}: {test['name']} {test['outcome']}")
            # One test on one server and another on the other show neither on both.
            lacking = [server for server in REAL.get(real, []) if shown and server not in shown]
            if lacking and state == "built":
                problems.append(f"{identifier}: '{pattern}' did not run on {' and '.join(lacking)}, where the row says real")
            proven |= shown
        # A part that is built may still wait for its proof on one of the servers; a whole may not.
        missing = [server for server in REAL.get(real, []) if server not in proven]
        if missing and (state == "built" or not proven):
            problems.append(f"{identifier} is {state.split(':')[0]}, must be shown on a real server, and no test of it ran on {' and '.join(missing)}")
    return problems


def main():
    text = PAGE.read_text()
    ran = json.loads(SUMMARY.read_text())["tests"] if SUMMARY.exists() else None
    rules = {"EveryNumberHasItsRow": check_page(text)}
    if ran is None:
        rules["RowsAreProvenByTests"] = ["no results of a test run: ./dev test makes them"]
    else:
        rules["RowsAreProvenByTests"] = check_tests(text, ran)
    for name, problems in rules.items():
        for problem in problems:
            print(f"FAIL Requirements.{name}: {problem}")
        if not problems:
            print(f"PASS Requirements.{name}")
    states = [cells[3].split(":")[0] for _, cells in read_rows(text) if len(cells) == 6]
    sys.stdout.flush()
    print(f"{states.count('built')} built, {states.count('partly')} partly, {states.count('not yet')} not yet", file=sys.stderr)
    return 1 if any(rules.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

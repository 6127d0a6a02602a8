#!/usr/bin/env python3
"""The checker of docs/requirements.md refuses each kind of claim that the tests did not show."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import check_requirements as checker


def row(state="built", real="19 + 14", tests="`Pull.*`", where="`tools`"):
    return f"| STG-1 | keep all | {real} | {state} | {where} | {tests} |\n"


def ran(*names, outcome="passed"):
    return [{"name": name, "outcome": outcome} for name in names]


BOTH = ran("Pull.Finds/Odoo19", "Pull.Finds/Odoo14")
CASES = {
    "AcceptsARowProvenOnBothServers": not checker.check_tests(row(), BOTH),
    "RefusesATestThatDidNotRun": checker.check_tests(row(tests="`Pull.*`, `Push.Once`"), BOTH),
    "RefusesATestThatFailed": checker.check_tests(row(), BOTH + ran("Pull.Late", outcome="failed")),
    "RefusesATestThatWasSkipped": checker.check_tests(row(), BOTH + ran("Pull.Late", outcome="skipped")),
    "RefusesBuiltOnTheStandInAlone": checker.check_tests(row(), ran("Pull.Finds/StandIn")),
    "RefusesBuiltOnOneOfTwoServers": checker.check_tests(row(), ran("Pull.Finds/Odoo19")),
    "RefusesOneTestOnEachOfTwoServers": checker.check_tests(row(tests="`Pull.*`, `Push.*`"), ran("Pull.Finds/Odoo19", "Push.Once/Odoo14")),
    "AcceptsATestWithoutAServerBesideOneOnBoth": not checker.check_tests(row(tests="`Pull.*`, `Plan.*`"), BOTH + ran("Plan.Reads")),
    "AcceptsPartlyOnOneOfTwoServers": not checker.check_tests(row("partly: the rest"), ran("Pull.Finds/Odoo19")),
    "RefusesPartlyOnTheStandInAlone": checker.check_tests(row("partly: the rest"), ran("Pull.Finds/StandIn")),
    "AcceptsNoServerWhereNoneIsAsked": not checker.check_tests(row(real="no"), ran("Pull.Finds/StandIn")),
    "RefusesARowWithoutTests": any("names no test" in problem for problem in checker.check_page(row(tests=""))),
    "RefusesAPlaceThatIsNotThere": any("there is no" in problem for problem in checker.check_page(row(where="`src/nowhere`"))),
    "RefusesAMissingNumber": any("STG-2 has no row" in problem for problem in checker.check_page(row())),
    "RefusesANumberTwice": any("more than one row" in problem for problem in checker.check_page(row() + row())),
}
for name, right in CASES.items():
    wanted = len(sys.argv) == 1 or any(pattern.lower() in f"CheckRequirements.{name}".lower() for pattern in sys.argv[1:])
    if wanted:
        print(f"PASS CheckRequirements.{name}" if right else f"FAIL CheckRequirements.{name}")

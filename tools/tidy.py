#!/usr/bin/env python3
"""The rules of the house that a compiler does not know. Reads each file once, prints PASS or FAIL per rule.

    cli, api, mcp -> ops -> connectors -> pipeline -> jobs, odoo, access, audit, notify -> store, http, json -> base

A folder of src/ may include itself and what stands to the right of it; app may include all. Connectors do not include each
other. The stand-ins under sandbox/ may use base, json and http alone: what they shared with the hub's own side of a protocol
would carry the same mistakes.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

LEVELS = [
    {"base"},
    {"store", "http", "json"},
    {"jobs", "odoo", "access", "audit", "notify"},
    {"pipeline"},
    {"connectors"},
    {"ops"},
    {"cli", "api", "mcp"},
    {"app"},
]
LEVEL_OF = {folder: level for level, folders in enumerate(LEVELS) for folder in folders}
TEST_HELP = ("fakes/", "tests/", "sandbox/", "contract/", "generated/")

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')

# rule name, what it is about, pattern, where it counts (path -> bool), what to do instead
cpp = lambda path: path.endswith((".cpp", ".h"))
in_src = lambda path: cpp(path) and path.startswith("src/")
is_test = lambda path: path.endswith("_test.cpp") or path.startswith("tests/")
everything = lambda path: True
LINE_RULES = [
    ("NoSleep", re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep)\s*\("),
     lambda path: cpp(path) and path != "src/base/clock.cpp" and not path.startswith("sandbox/"),
     "wait for the event itself, or take the time from Clock"),
    ("NoStandardOutputInLibraries", re.compile(r"\bstd::(cout|cerr|clog)\b|(?<![\w.])(printf|puts)\s*\("),
     lambda path: in_src(path) and not path.startswith(("src/cli/", "src/app/")) and not is_test(path),
     "use base/log.h; only cli and app talk to the terminal"),
    ("NoUnfinishedMarks", re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b"),
     lambda path: path.endswith((".cpp", ".h", ".py", ".sh", ".cmake", "dev", "CMakeLists.txt")),
     "finish it, or say in the requirements what is missing"),
    ("NoRegistryHosts", re.compile(r"(deb|ftp|security|snapshot|httpredir)\.debian\.org|registry\.(npmjs|yarnpkg)\.|pypi\.org|files\.pythonhosted", re.I),
     everything, "read the mirror from the machine's own settings"),
    ("NoSwallowedExceptions", re.compile(r"catch\s*\(\s*\.\.\.\s*\)\s*\{\s*\}"), cpp, "say why it may be dropped: ignore_error"),
    ("NoUsingNamespaceStd", re.compile(r"^\s*using\s+namespace\s+std\s*;"), cpp, "name what you use"),
    ("NoDisabledTests", re.compile(r"\bDISABLED_\w"), cpp, "delete the test or make it pass"),
    ("BeastInOneFile", re.compile(r"#\s*include\s+<boost/(beast|asio)"), lambda path: in_src(path) and not path.startswith("src/http/"),
     "use http/server.h"),
    ("SpdlogBehindLog", re.compile(r"#\s*include\s+<spdlog/"), lambda path: in_src(path) and path != "src/base/log.cpp", "use base/log.h"),
    ("CommandLineParserInCli", re.compile(r"#\s*include\s+<CLI/"), lambda path: in_src(path) and not path.startswith(("src/cli/", "src/app/")),
     "parse the command line in cli/"),
    ("JsonTreesOutOfHeaders", re.compile(r"#\s*include\s+<nlohmann/json\.hpp>"),
     lambda path: path.startswith(("src/base/", "src/http/", "src/store/")) and path.endswith(".h"),
     "use <nlohmann/json_fwd.hpp>: the full header costs 3 seconds in each file"),
]


def machine_paths():
    """Paths that are true on this machine alone, as they would look in a file."""
    paths = []
    for path in (ROOT, ROOT.parent, pathlib.Path.home()):
        if len(path.parts) > 1 and str(path) not in ("/root", "/home", "/tmp", "/opt", "/usr", "/srv", "/var"):
            paths.append(str(path) + "/")
    return paths


def tracked_files():
    output = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                            check=True, text=True).stdout
    return [name for name in output.split("\0") if name and (ROOT / name).is_file()]


def include_problem(path, target):
    parts = path.split("/")
    test = is_test(path)
    folder = target.split("/")[0]
    if parts[0] == "src":
        own = parts[1]
        if "/" not in target or target.startswith("."):
            return "includes are written from src/ on, as \"base/error.h\""
        if folder not in LEVEL_OF:
            if test and target.startswith(TEST_HELP):
                return None
            return None if target.startswith("generated/") else f"'{folder}' is no folder of src/"
        if own not in LEVEL_OF:
            return f"src/{own} has no place in the order of the folders (tools/tidy.py)"
        if own == "connectors" and folder == "connectors" and len(parts) > 3:
            other = target.split("/")
            if len(other) > 2 and other[1] != parts[2]:
                return "connectors do not include each other"
        if own != folder and LEVEL_OF[folder] >= LEVEL_OF[own]:
            return f"{own} may not include {folder}"
    elif parts[0] == "sandbox" and folder in LEVEL_OF and folder not in ("base", "json", "http") and not test:
        return f"a stand-in shares nothing with {folder}"
    return None


def main():
    findings = {name: [] for name, *_ in LINE_RULES}
    for extra in ("IncludeDirection", "PragmaOnce", "FileNames", "NoMachinePaths", "LinksInDocuments"):
        findings[extra] = []
    local_paths = machine_paths()
    for path in tracked_files():
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        lines = text.splitlines()
        own_rules = [rule for rule in LINE_RULES if rule[2](path)]
        corpus = path.startswith("fuzz/corpus/")
        for number, line in enumerate(lines, 1):
            if corpus:
                break
            for name, pattern, _, instead in own_rules:
                if path != "tools/tidy.py" and pattern.search(line):
                    findings[name].append(f"{path}:{number}: {instead}")
            for local in local_paths:
                if local in line:
                    findings["NoMachinePaths"].append(f"{path}:{number}: '{local}' is this machine's")
            if cpp(path) and (match := INCLUDE.match(line)) and match.group(1):
                if problem := include_problem(path, match.group(1)):
                    findings["IncludeDirection"].append(f"{path}:{number}: {problem}")
            if path.endswith(".md"):
                for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                    if "://" not in target and not (ROOT / path).parent.joinpath(target).exists():
                        findings["LinksInDocuments"].append(f"{path}:{number}: no such file: {target}")
        if path.startswith(("src/", "sandbox/")) and path.endswith(".h") and "#pragma once" not in lines:
            findings["PragmaOnce"].append(f"{path}: has no #pragma once")
        if cpp(path) and not re.fullmatch(r"[a-z0-9_./]+", path):
            findings["FileNames"].append(f"{path}: files are named in snake_case")
    failed = False
    for name, problems in findings.items():
        if problems:
            failed = True
            for problem in problems:
                print(f"FAIL Tidy.{name}: {problem}")
        else:
            print(f"PASS Tidy.{name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

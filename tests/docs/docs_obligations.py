#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The obligations of the promise in docs/reliability.md: each has a test named after it or a proof,
and what the table names is there and runs.

Usage: docs_obligations.py
"""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
IDS = [f"{kind}{number}" for kind, most in
       (("S", 3), ("M", 5), ("K", 4), ("C", 3), ("D", 6), ("F", 5), ("L", 3))
       for number in range(1, most + 1)]
ROW = re.compile(r"^\| ([A-Z]\d) \| (.+?) \| (.+?) \|$")
DEFINED = re.compile(r"^(?:static void|def|void)\s+(o_[a-z0-9_]+)\(|^(o_[a-z0-9_]+)\(void \*\*", re.M)
WORD = re.compile(r"\bo_[a-z]\d_\w+")


def table_of(page):
    """id -> names in its row, of the section Obligations."""
    part = page.split("\n## Obligations\n", 1)[1].split("\n## ", 1)[0]
    return {row.group(1): re.findall(r"`([^`]+)`", row.group(3))
            for row in map(ROW.match, part.splitlines()) if row}


def tests_of(files):
    """Names of the tests, each defined in its file and named there once more: it is run."""
    found = set()
    for text in files:
        uses = collections.Counter(WORD.findall(text))
        found |= {name for pair in DEFINED.findall(text) for name in pair if name and uses[name] > 1}
    return found


def problems(table, tests, proofs):
    for id_ in IDS:
        if id_ not in table:
            yield f"{id_} is not in the table"
            continue
        own = f"o_{id_.lower()}_"
        if not any(name.startswith(own) for name in tests) and not proofs & set(table[id_]):
            yield f"{id_}: no test {own}... and no proof"
        for name in table[id_]:
            if name not in tests | proofs:
                yield f"{id_}: there is no test or proof `{name}`"
            elif name in tests and f"_{id_.lower()}_" not in name:
                yield f"{id_}: `{name}` is named after another"
        if not table[id_]:
            yield f"{id_}: the table names nothing"
    for id_ in table:
        if id_ not in IDS:
            yield f"{id_} is no obligation"
    for name in sorted(tests):
        if name.split("_")[1].upper() not in IDS:
            yield f"{name} is named after no obligation"


def self_test():
    """It must see what is wrong."""
    table = {id_: ["kill"] for id_ in IDS}
    assert not list(problems(table, set(), {"kill"}))
    for wrong in ({"S1": ["o_s1_gone"]}, {"S1": []}, {"S1": ["o_s2_other"]}, {"Z1": ["kill"]}):
        assert list(problems({**table, **wrong}, {"o_s2_other"}, {"kill"})), wrong
    assert list(problems({k: v for k, v in table.items() if k != "D5"}, set(), {"kill"}))
    assert list(problems(table, {"o_x9_what"}, {"kill"}))
    once = "static void o_s1_a(void **state) {\n}\n"
    assert not tests_of([once]) and tests_of([once + "cmocka_unit_test(o_s1_a),"]) == {"o_s1_a"}


def main():
    self_test()
    prove = ROOT / "tests" / "prove"
    proofs = {path.name for path in prove.iterdir() if "." not in path.name and path.name != "all"}
    proofs |= {path.stem[len("prove_"):] for path in prove.glob("prove_*.c")}
    files = [path.read_text(errors="replace") for path in sorted((ROOT / "tests").rglob("*"))
             if path.is_file() and (path.suffix in (".c", ".py") or path.parent == prove)
             and path != pathlib.Path(__file__).resolve()]
    table = table_of((ROOT / "docs" / "reliability.md").read_text())
    tests = tests_of(files)
    found = list(problems(table, tests, proofs))
    for line in found:
        print(f"docs/reliability.md: {line}")
    print(f"{len(table)} obligations, {len(tests)} tests named after them")
    return 1 if found or not tests else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A state of each former schema is opened and everything is found; a newer one is refused.

Usage: daemon_old_states.py HEADRACE
"""
import datetime
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
import old_state  # noqa: E402
from old_state import STATES, handled, post, standing, wait  # noqa: E402

EXIT_NEWER = 1
SCHEMAS = sorted((ROOT / "schemas" / "store").glob("*.sql"))


def years_since(second):
    """Ticks of 1 January, UTC, that came since."""
    then = datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
    return datetime.datetime.now(datetime.timezone.utc).year - then.year


def a_schema_has_its_state(program):
    numbers = [path.name[:4] for path in SCHEMAS]
    kept = [path.stem[-4:] for path in sorted(STATES.glob("schema_*.sql"))]
    assert numbers == kept, (f"schemas {numbers}, states {kept}: run tests/lib/old_state.py with the "
                             "release that writes the missing one")


def o_l3_an_old_state_is_found_whole(program):
    for source in sorted(STATES.glob("schema_*.sql")):
        with tempfile.TemporaryDirectory(prefix="headrace-old-") as folder:
            folder = pathlib.Path(folder)
            daemon = old_state.make(program, folder)
            expects = old_state.restore(source, folder / "state")
            with daemon:
                one_state(daemon, folder, expects)
            with daemon:  # and once more, as it is now
                now = standing(daemon)["functions"]
                assert all(f["pending"] == 0 and f["drift"] == 0 for f in now.values()), now
            schema = sqlite3.connect(folder / "state" / "headrace.db").execute(
                "PRAGMA user_version").fetchone()[0]
            assert schema == len(SCHEMAS), schema
        print(f"{source.name}: found whole")


def one_state(daemon, folder, expects):
    ticks = years_since(expects["written"])
    found = standing(daemon)
    for part in ("dead", "received", "functions"):
        here = found[part]
        if part != "dead":  # ticks that were missed since came at once
            here = {name: value for name, value in here.items()
                    if name in expects[part] and name not in ("tick", "yearly")}
        wanted = {name: value for name, value in expects[part].items()
                  if name in here} if part != "dead" else expects[part]
        assert here == wanted, (part, here, wanted)
    daemon.ask("dlq", "show", expects["dead"][0][0])
    for id_ in expects["seen"]:  # each is known
        post(daemon, id_, "again", "ok")
    (folder / "open").touch()
    wanted = set(expects["pending"])
    wanted |= {f"after {line.split()[1]}/take/1" for line in wanted if line.startswith("take ")}

    def done():
        return set(handled(folder)) >= wanted and all(
            f["pending"] == 0 for f in standing(daemon)["functions"].values())

    wait("all that was pending is handled", done)
    lines = handled(folder)
    taken = {line for line in lines if not line.startswith("tick ")}
    assert taken == wanted, (sorted(taken - wanted), sorted(wanted - taken))
    assert len(lines) == len(set(lines)), "handled twice"
    assert len(lines) - len(taken) == ticks, (lines, ticks)
    now = standing(daemon)
    assert all(f["drift"] == 0 for f in now["functions"].values()), now
    assert now["received"]["orders"] == expects["received"]["orders"], "dedupe forgot"
    assert daemon.ask("dlq", "replay", "--all")["replayed"] == len(expects["dead"])
    wait("the replayed ones", lambda: not daemon.ask("dlq", "ls")["dead"]
         and len([line for line in handled(folder) if line.startswith("take ")])
         == len([line for line in taken if line.startswith("take ")]) + len(expects["dead"]))
    wait("their results", lambda: all(
        f["pending"] == 0 for f in standing(daemon)["functions"].values()))


def o_l3_a_newer_state_is_refused(program):
    with tempfile.TemporaryDirectory(prefix="headrace-old-") as folder:
        folder = pathlib.Path(folder)
        daemon = old_state.make(program, folder)
        old_state.restore(STATES / f"schema_{len(SCHEMAS):04}.sql", folder / "state")
        path = folder / "state" / "headrace.db"
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA user_version={len(SCHEMAS) + 1}")
        db.close()
        before = path.read_bytes()
        done = subprocess.run(daemon._words("run", "-c", daemon.config), capture_output=True,
                              text=True, timeout=60)
        said = [line for line in done.stderr.split("\n") if "schema" in line]
        assert done.returncode == EXIT_NEWER, (done.returncode, done.stderr)
        assert len(said) == 1 and "use a newer headrace" in said[0], done.stderr
        assert path.read_bytes() == before, "it was written to"


def main():
    program = sys.argv[1]
    for test in (a_schema_has_its_state, o_l3_an_old_state_is_found_whole, o_l3_a_newer_state_is_refused):
        began = time.monotonic()
        test(program)
        print(f"{test.__name__}: ok, {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""States of each schema: one is written by the program of its time and kept as text.

Usage: old_state.py HEADRACE        writes tests/integration/states/schema_NNNN.sql, NNNN being the
                                    schema that this HEADRACE writes; tests/integration/
                                    daemon_old_states.py opens all of them

In a state there are settled events, events pending in three journals (one before settled ones, in
one many to a row),
parked ones (to be retried, and behind one of their key), open, replayed and dropped dead letters,
ids that dedupe knows, and the base of a cron trigger. What it should be found to hold stands in
its first lines.
"""
import json
import os
import pathlib
import sqlite3
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from daemon import Daemon, whole_lines  # noqa: E402

STATES = pathlib.Path(__file__).resolve().parent.parent / "integration" / "states"
LIMIT_S = 60
MANY = 20
PAGE = 16384
EXPECTS = "-- expects: "

CONFIG = """
settings:
  listen: 127.0.0.1:0
triggers:
  orders:
    webhook: { path: /hooks/orders, dialect: json, insecure: true, id: data.id }
    dedupe: { window: 3650d }
  yearly:
    cron: { at: "0 0 1 1 *", missed: all }
  many:
    webhook: { path: /hooks/many, dialect: cloudevents, insecure: true }
functions:
  take:
    from: orders
    python: handler.py:take
    order: key
    key: data.key
    concurrency: 8
    workers: 8
    timeout: 1h
    retry: { attempts: 1000, backoff: 10s..20s, max_age: 365d }
  after:
    from: take
    python: handler.py:after
    order: none
    timeout: 1h
    retry: { attempts: 1000, backoff: 10s..20s, max_age: 365d }
  tick:
    from: yearly
    python: handler.py:after
  keep:
    from: many
    python: handler.py:after
    order: none
    timeout: 1h
    retry: { attempts: 1000, backoff: 10s..20s, max_age: 365d }
"""

# What an event's fate is while the file "open" is not there; then all goes well.
HANDLER = '''
import os
import time

import headrace


def write(event, ctx):
    with open("handled", "a") as file:
        file.write(f"{ctx.function} {event.id}\\n")


def take(event, ctx):
    fate = event.data["fate"]
    if not os.path.exists("open"):
        if fate == "dead":
            raise headrace.Dead("asked for it")
        if fate == "retry":
            raise ValueError("not yet")
        while fate == "held" and not os.path.exists("open"):
            time.sleep(0.02)
    write(event, ctx)
    return {"of": event.data["id"]}


def after(event, ctx):
    while ctx.function in ("after", "keep") and not os.path.exists("open"):
        time.sleep(0.02)
    write(event, ctx)
'''


def make(program, folder):
    """A daemon of this folder, whose files (handled, open) lie there too."""
    folder = pathlib.Path(folder)
    (folder / "handler.py").write_text(
        "import os\nos.chdir(os.path.dirname(os.path.abspath(__file__)))\n" + HANDLER)
    return Daemon(program, folder, CONFIG)


def handled(folder):
    return whole_lines(pathlib.Path(folder) / "handled")


def wait(what, probe):
    end = time.monotonic() + LIMIT_S
    while not (value := probe()):
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.05)
    return value


def post(daemon, id_, key, fate):
    body = json.dumps({"id": id_, "key": key, "fate": fate}).encode()
    send(daemon, "/hooks/orders", body, "application/json")


def post_at_once(daemon, ids):
    """In one request, so that they stand in one row of the journal."""
    body = json.dumps([{"specversion": "1.0", "id": id_, "source": "old", "type": "many",
                        "data": {"of": id_}} for id_ in ids]).encode()
    send(daemon, "/hooks/many", body, "application/cloudevents-batch+json")


def send(daemon, path, body, kind):
    request = urllib.request.Request(daemon.url(path), body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        assert answer.status == 202, answer.status


def standing(daemon):
    """What status and the dead letters say that a later release must say too."""
    status = daemon.ask("status")
    letters = daemon.ask("dlq", "ls")["dead"]
    keys = ("deliveries", "delivered", "dropped", "dead", "pending", "drift")
    return {"functions": {f["name"]: {key: f[key] for key in keys} for f in status["functions"]},
            "retrying": {f["name"]: f["retrying"] for f in status["functions"]},
            "received": {t["name"]: t["received"] for t in status["triggers"]},
            "dead": sorted([one["id"], one["function"], one["reason"], one["attempts"]]
                           for one in letters)}


def fill(daemon, folder):
    """Gives the daemon its events; those that are to be pending at the end."""
    fates = [("ok", 6), ("dead", 4), ("retry", 2), ("held", 2)]
    number, pending = 0, []
    for fate, count in fates:
        for _ in range(count):
            number += 1
            key = "held" if fate == "held" else f"{fate}{number % 2}"  # it holds one lane
            post(daemon, f"o{number}", key, fate)
            if fate in ("retry", "held"):
                pending.append(f"take o{number}")
    for fate, key in (("ok", "retry0"), ("ok", "other"), ("ok", "other")):
        number += 1  # behind an event of its key that waits; settled above what is held
        post(daemon, f"o{number}", key, fate)
        if key != "other":
            pending.append(f"take o{number}")
    wait("all but what waits is settled", lambda: len(handled(folder)) == 8)
    pending += [f"after {line.split()[1]}/take/1" for line in handled(folder)]
    many = [f"m{n}" for n in range(MANY)]
    post_at_once(daemon, many)
    pending += [f"keep {id_}" for id_ in many]
    dead = wait("dead letters", lambda: (lambda found: len(found) == 4 and found)(
        daemon.ask("dlq", "ls")["dead"]))
    daemon.ask("dlq", "drop", dead[0]["dead"], "--yes")
    daemon.ask("dlq", "replay", dead[1]["dead"])  # and dies again
    wait("the replay", lambda: standing(daemon)["functions"]["take"]["dead"] == 5)
    wait("what is parked", lambda: standing(daemon)["retrying"]["take"] == 3)
    return sorted(pending), [f"o{n}" for n in range(1, number + 1)]


def dump(path, expects):
    """The database as text that makes it again."""
    db = sqlite3.connect(path)
    numbers = {name: db.execute(f"PRAGMA {name}").fetchone()[0]
               for name in ("application_id", "user_version")}
    schema = numbers["user_version"]
    lines = ["-- SPDX-License-Identifier: Apache-2.0",
             f"-- A state of schema {schema}, written by tests/lib/old_state.py; never changed.",
             EXPECTS + json.dumps(expects),
             f"PRAGMA page_size={PAGE};", "PRAGMA auto_vacuum=INCREMENTAL;", *db.iterdump(),
             *(f"PRAGMA {name}={value};" for name, value in numbers.items())]
    db.close()
    target = STATES / f"schema_{schema:04}.sql"
    target.write_text("\n".join(lines) + "\n")
    return target


def restore(source, state):
    """Makes the database of a text again below the folder state; what it should hold."""
    text = source.read_text()
    line = next(line for line in text.split("\n") if line.startswith(EXPECTS))
    expects = json.loads(line[len(EXPECTS):])
    state.mkdir(mode=0o700)
    db = sqlite3.connect(state / "headrace.db")
    db.executescript(text)
    with db:  # retry.max_age ends at 365 days: first tried on the day before, whenever that was
        later = int(time.time() - expects["written"] - 86400) * 1000
        db.execute("UPDATE parked SET first_attempt_ms = first_attempt_ms + ?1"
                   " WHERE first_attempt_ms > 0 AND ?1 > 0", (later,))
    db.close()
    return expects


def main():
    with tempfile.TemporaryDirectory(prefix="headrace-old-") as folder:
        daemon = make(sys.argv[1], folder)
        daemon.start()
        try:
            pending, seen = fill(daemon, folder)
            daemon.kill9()
            daemon.start()  # as it stands after a kill: what ran is parked or pending again
            wait("workers", lambda: all(f["slots"] for f in daemon.ask("status")["functions"]))
            expects = {**standing(daemon), "pending": pending, "seen": seen,
                       "written": int(time.time())}
        finally:
            daemon.kill9()
        print(dump(os.path.join(folder, "state", "headrace.db"), expects))


if __name__ == "__main__":
    main()

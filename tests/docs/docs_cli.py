#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line as a newcomer meets it: help, mistakes, exit codes, pages, pipes, restarts.

Usage: docs_cli.py HEADRACE
"""
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from daemon import Daemon  # noqa: E402

LIMIT_S = 60
OK, FAILED, USAGE, CONFIG = 0, 1, 2, 78

FILE = """
settings: { listen: 127.0.0.1:0 }
triggers:
  posts:
    webhook: { path: /posts, dialect: json, insecure: true }
functions:
  act:
    from: posts
    when: data.what <> 'filtered'
    python: act.py
    order: none
    batch: { size: 64 }
    retry: { attempts: 50, backoff: 50ms..100ms, max_age: 1s }
  wait:
    from: posts
    when: data.what = 'retrying'
    shell: exit 1
    retry: { attempts: 5, backoff: 1h..1h }
"""

HANDLER = """
import os

import headrace

def handle(event, ctx):
    what = event.data["what"]
    if what == "dead" and not os.path.exists("mended"):
        raise headrace.Dead("so dead")
    if what == "dropped":
        raise headrace.Drop("not wanted")
    if what == "expired":
        raise ValueError("again")
"""


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s"
        time.sleep(0.05)


class Line:
    """What a command printed, and how it ended."""

    def __init__(self, program, *words, user=None, cwd=None):
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True,
                              timeout=LIMIT_S, cwd=cwd, user=user, stdin=subprocess.DEVNULL)
        self.words, self.out, self.err, self.code = words, done.stdout, done.stderr, done.returncode

    def ends(self, code, pattern=None):
        told = f"{self.words}: {self.code}\n{self.out}{self.err}"
        assert self.code == code, told
        if code != OK:
            assert self.err.count("\n") == 1 or code == CONFIG, f"not one line: {told}"
        if pattern is not None:
            assert re.search(pattern, self.out if code == OK else self.err), f"{pattern}? {told}"
        return self


def verbs(program):
    """The commands that --help lists."""
    text = Line(program, "--help").ends(OK).out
    return [m.group(1) for m in re.finditer(r"^(?:[A-Z]\w*)? +([a-z]+) {2,}\S", text, re.M)]


def check_words(program):
    names = verbs(program)
    assert {"run", "check", "emit", "status", "tap", "trace", "logs", "dlq", "checkpoint", "recover",
            "demo"} <= set(names), names
    for name in names:
        text = Line(program, "help", name).ends(OK, f"^headrace {name}").out
        assert text == Line(program, name, "--help").ends(OK).out
        assert "Options:" in text and f"Examples:\n  headrace {name}" in text, text
    assert Line(program).code == USAGE
    Line(program, "stauts").ends(USAGE, "no command 'stauts'; did you mean 'status'")
    Line(program, "help", "stauts").ends(USAGE, "did you mean 'status'")
    Line(program, "frobnicate").ends(USAGE, "headrace --help lists them")
    Line(program, "-c", "x", "run").ends(USAGE, "the command comes first")
    Line(program, "status", "--frob").ends(USAGE, "no option '--frob'")
    Line(program, "status", "extra").ends(USAGE, "'extra' is one word too many")
    Line(program, "run", "--for").ends(USAGE, "needs a value")
    Line(program, "demo", "--for", "ever").ends(USAGE, "a duration such as 10s")
    Line(program, "logs", "--limit", "x").ends(USAGE, "a number above 0")
    Line(program, "dlq", "frob").ends(USAGE, "dlq ls")
    Line(program, "dlq", "show").ends(USAGE, "which dead letter")
    Line(program, "dlq", "drop", "--all").ends(USAGE, "--yes")
    Line(program, "emit").ends(USAGE, "name of a trigger")
    Line(program, "trace").ends(USAGE, "id of an event")
    print(f"ok {len(names)} commands have help with examples; wrong words end with 2", flush=True)


def check_starts(program, folder):
    """A start that cannot be: one clear line, and the exit status says which kind."""
    Line(program, "run", cwd=folder).ends(CONFIG, "there is no headrace.yaml here")
    Line(program, "run", "-c", "missing.yaml", cwd=folder).ends(CONFIG, "missing.yaml.*No such file")
    hidden = folder / "hidden.yaml"
    hidden.write_text("triggers: {}\n")
    hidden.chmod(0)
    user = 65534 if os.geteuid() == 0 else None
    folder.chmod(0o755)
    own = folder / "headrace"  # where an unprivileged user may come
    for name in ("headrace", "headrace-spawn"):
        shutil.copy(pathlib.Path(program).parent / name, folder)
    Line(own, "run", "-c", hidden, user=user).ends(CONFIG, "hidden.yaml.*Permission denied")
    file = folder / "empty.yaml"
    file.write_text("triggers: {}\n")
    state = folder / "forbidden"
    state.mkdir(mode=0o500)
    Line(own, "run", "-c", file, "--state", state / "state", user=user).ends(
        FAILED, "forbidden/state.*Permission denied")
    Line(program, "run", "-c", file, "--state", file).ends(FAILED, "empty.yaml")
    Line(program, "run", "-c", file, "--state", folder / ("x" * 120)).ends(CONFIG, "too long")
    broken = folder / "state"
    broken.mkdir()
    (broken / "headrace.db").write_bytes(b"not a database at all" * 1000)
    Line(program, "run", "-c", file, "--state", broken).ends(FAILED, "headrace.db")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file.write_text(FILE.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        (folder / "act.py").write_text(HANDLER)
        Line(program, "run", "-c", file, "--state", folder / "port").ends(
            FAILED, f"127.0.0.1:{port}.*in use")
    for words in (["status"], ["tap"], ["trace", "x"], ["logs"], ["dlq"], ["checkpoint", "ls"],
                  ["emit", "posts"]):
        Line(program, *words, "--state", folder / "port").ends(FAILED, "no daemon runs on the state")
        Line(program, *words, "--state", "/nonexistent").ends(FAILED, "no daemon runs on the state")
    print("ok what cannot start says why in one line", flush=True)


def post(daemon, bodies):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=LIMIT_S)
    for body in bodies:
        connection.request("POST", "/posts", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 202, answer.status
        answer.read()
    connection.close()


def check_pages(program, daemon, state):
    """More dead letters than a page of the store holds."""
    count = 1005

    def function():
        return daemon.ask("status")["functions"][0]

    def die():
        before = function()["dead"]
        for _ in range(count):  # the good ones between keep the circuit breaker closed
            post(daemon, [{"what": "dead"}, {"what": "delivered"}])
        wait_until(lambda: function()["dead"] == before + count, "all are dead")

    def open_letters():
        letters, next_ = [], 1
        while next_ is not None:
            page = daemon.ask("dlq", "ls", "--limit", 500, "--from", next_)
            assert len(page["dead"]) <= 500
            letters += page["dead"]
            next_ = page.get("next")
        return letters

    die()
    first = open_letters()
    assert len({letter["id"] for letter in first}) == len(first) == count
    text = Line(program, "dlq", "ls", "--limit", 2, "--state", state).ends(OK).out
    assert re.search(r"there are more: headrace dlq ls --from 3$", text.strip()), text
    one = first[0]["dead"]
    assert daemon.ask("dlq", "drop", one, "--yes") == {"dropped": 1}
    Line(program, "dlq", "drop", one, "--yes", "--state", state).ends(FAILED, "before")
    Line(program, "dlq", "replay", one, "--state", state).ends(FAILED, "before")
    Line(program, "dlq", "show", 99999, "--state", state).ends(FAILED, "no dead letter has this id")
    (daemon.folder / "mended").touch()
    assert daemon.ask("dlq", "replay", "--all") == {"replayed": count - 1}
    wait_until(lambda: function()["delivered"] == 2 * count - 1, "each is delivered once")
    assert open_letters() == []
    (daemon.folder / "mended").unlink()
    die()
    assert daemon.ask("dlq", "drop", "--function", "act", "--yes") == {"dropped": count}
    assert open_letters() == [] and daemon.ask("dlq", "drop", "--all", "--yes") == {"dropped": 0}
    print(f"ok {count} dead letters in pages; replay and drop take all of them, each once", flush=True)


def check_asking(program, daemon, state):
    Line(program, "run", "-c", daemon.config, "--state", state).ends(
        FAILED, f"in use by process {daemon.process.pid}")
    Line(program, "emit", "nope", "--state", state).ends(FAILED, "no trigger is called 'nope'")
    Line(program, "emit", "posts", "--data", "{", "--state", state).ends(FAILED, "not JSON")
    Line(program, "logs", "nope", "--state", state).ends(FAILED, "no function has this name")
    Line(program, "tap", "nope", "--state", state).ends(FAILED, "no trigger and no function")
    assert Line(program, "trace", "nope", "--state", state).code == FAILED
    for words in (["status"], ["logs"], ["logs", "act"], ["dlq"], ["checkpoint", "ls"], ["check"],
                  ["version"], ["schema"], ["emit", "posts", "--data", '{"what":"delivered"}']):
        more = ["-c", daemon.config] if words == ["check"] else []
        json.loads(Line(program, *words, "--json", "--state", state, *more).ends(OK).out)
    tap = subprocess.Popen([program, "tap", "--json", "--state", state], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    is_there = False
    while not is_there:  # what came before the tap was not seen by it: emit again
        daemon.ask("emit", "posts", "--data", '{"what":"delivered"}')
        is_there = select.select([tap.stdout], [], [], 0.2)[0] != []
    tap.stdout.close()
    daemon.ask("emit", "posts", "--data", '{"what":"delivered"}')
    assert tap.wait(LIMIT_S) == -signal.SIGPIPE and tap.stderr.read() == ""
    print("ok questions are answered in text and JSON; a broken pipe is quiet", flush=True)


def check_restart(daemon):
    ids = {}
    for what in ("delivered", "filtered", "dead", "dropped", "expired", "retrying"):
        ids[what] = daemon.ask("emit", "posts", "--data", json.dumps({"what": what}))["ids"][0]

    def standing(what):
        trace = daemon.ask("trace", ids[what])
        states = {f["function"]: f["state"] for row in trace["journal"] for f in row["functions"]}
        return states["wait" if what == "retrying" else "act"]

    def totals():
        return {name: value for name, value in daemon.ask("status")["totals"].items()
                if name not in ("attempts",)}

    for what in ids:
        wait_until(lambda what=what: standing(what) == what, what)
    before = totals()
    daemon.kill9()
    daemon.start()
    for what in ids:
        assert standing(what) == what, daemon.ask("trace", ids[what])
    assert totals() == before, (before, totals())
    for what, error in (("dead", "so dead"), ("dropped", "not wanted"),
                        ("expired", "older than retry.max_age")):
        assert [one["error"] for one in daemon.ask("trace", ids[what])["dead"]] == [error]
    print("ok trace and status tell the same after kill -9 and a start", flush=True)


def check_recover(program, daemon, state, folder):
    """A state that is whole comes through whole; a running daemon's is left alone."""
    saved = folder / "saved"
    words = ("recover", "--state", state, "--to", saved)
    Line(program, *words).ends(FAILED, "a daemon runs on '.*': stop it first")
    before = sum(function["pending"] for function in daemon.ask("status")["functions"])
    daemon.stop()
    told = json.loads(Line(program, *words, "--json").ends(OK).out)
    assert told["lost"] == [] and told["notes"] == [] and told["tables"]["function"] > 0, told
    Line(program, *words).ends(FAILED, "holds a state already")
    Line(program, "recover", "--state", folder / "nowhere", "--to", folder / "new").ends(
        FAILED, "holds no state")
    state.rename(folder / "old")
    saved.rename(state)
    daemon.start()
    after = daemon.ask("status")["functions"]
    assert sum(function["pending"] for function in after) == before > 0, after
    assert all(function["drift"] == 0 for function in after), after
    print("ok recover saves a state, and only one that nobody uses", flush=True)


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_words(program)
        check_starts(program, folder)
        daemon = Daemon(program, folder / "daemon", FILE)
        (daemon.folder / "act.py").write_text(HANDLER)
        state = daemon.folder / "state"
        with daemon:
            check_pages(program, daemon, state)
            check_asking(program, daemon, state)
            check_restart(daemon)
            check_recover(program, daemon, state, folder)


if __name__ == "__main__":
    main()

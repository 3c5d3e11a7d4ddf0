#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Obligations of the promise (docs/reliability.md) that need the whole daemon: handlers that hang,
peers that cut their answers, strangers at the file, a state in memory.

Usage: daemon_promise.py HEADRACE [NAME...]
"""
import http.client
import json
import os
import pathlib
import socketserver
import sqlite3
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from daemon import LIMIT_S, Daemon  # noqa: E402

LISTEN = "settings:\n  listen: 127.0.0.1:0\n"

# Hangs in its first event until the file "go" is there, and says that it does.
HANGS = """
import os
import time


def handle(event, ctx):
    open("hangs", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)


def goes(event, ctx):
    pass


def writes(event, ctx):
    with open("results", "a") as file:
        file.write(event.raw.decode().strip() + "\\n")
"""


def wait_until(what, holds):
    end = time.monotonic() + LIMIT_S
    while not (value := holds()):
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.02)  # between looks; nothing rests on its length
    return value


def functions(daemon):
    return {f["name"]: f for f in daemon.ask("status")["functions"]}


def trigger(daemon, name):
    return next(t for t in daemon.ask("status")["triggers"] if t["name"] == name)


class Sender:
    """Posts on one connection that stays."""

    def __init__(self, daemon, path):
        self.path = path
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=LIMIT_S)

    def post(self, body):
        self.connection.request("POST", self.path, body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        answer.read()
        return answer


def in_threads(count, run):
    """run(number) in so many threads; what one raises is raised here."""
    troubles = []

    def guarded(number):
        try:
            run(number)
        except BaseException as error:  # told in the thread of the test
            troubles.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join()
        if troubles:
            raise troubles[0]

    return join


def settle(daemon, name, count):
    found = {}

    def holds():
        found.update(functions(daemon)[name])
        return found["delivered"] == count

    try:
        wait_until(f"{count} delivered to {name}", holds)
    except AssertionError as late:
        raise AssertionError(f"{late}; it says {found}") from None
    assert found["pending"] == 0 and found["drift"] == 0 and found["dead"] == 0, found


# ---- handlers that hang ----

SLOW = LISTEN + """
triggers:
  hooks:
    webhook: { path: /hooks, dialect: json, insecure: true }
functions:
  slow:
    from: hooks
    python: hangs.py
    order: none
    timeout: 1h
"""


def o_s3_a_handler_that_hangs_delays_no_202(program, folder):
    """A thousand deliveries are told 202 while one call hangs and nothing is settled."""
    (folder / "hangs.py").write_text(HANGS)
    with Daemon(program, folder, SLOW) as daemon:
        assert Sender(daemon, "/hooks").post(b'{"n": 0}').status == 202
        wait_until("the handler hangs", (folder / "hangs").exists)

        def post(number):
            sender = Sender(daemon, "/hooks")
            for n in range(125):
                assert sender.post(b'{"n": %d}' % (1 + number * 125 + n)).status == 202

        in_threads(8, post)()
        slow = functions(daemon)["slow"]
        assert slow["running"] == 1 and slow["delivered"] == 0, slow
        assert slow["deliveries"] == 1001, slow
        (folder / "go").touch()
        settle(daemon, "slow", 1001)


BODY = b'{"fill": "' + b"x" * (256 << 10) + b'"}'
QUOTA = 160 << 20
# shared out over a feed each trigger and two each function
STOPPED = LISTEN + f"""  journal: {{ max_bytes: {QUOTA // (1 << 20) * 8}MiB }}
triggers:
  one:
    webhook: {{ path: /one, dialect: json, insecure: true }}
  two:
    webhook: {{ path: /two, dialect: json, insecure: true }}
functions:
  hung:
    from: one
    python: hangs.py
    order: none
    timeout: 1h
  beside:
    from: one
    python: hangs.py:goes
    order: none
  other:
    from: two
    python: hangs.py:goes
    order: none
"""
MEMORY_MIB = 112  # 16 of the feed's newest batches, 32 of each function's queue, what is on its way


def anonymous_mib(daemon):
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines()
                if line.startswith("RssAnon")) >> 10


def o_f5_a_function_that_hangs_stops_its_source_at_the_bound_and_nobody_else(program, folder):
    (folder / "hangs.py").write_text(HANGS)
    options = os.environ.get("ASAN_OPTIONS", "")  # what is freed is given back
    with Daemon(program, folder, STOPPED,
                {"ASAN_OPTIONS": f"{options}:quarantine_size_mb=1"}) as daemon:
        is_over, others = threading.Event(), [0]

        def go_on(number):
            sender = Sender(daemon, "/two")
            while not is_over.is_set():
                assert sender.post(b'{"n": 1}').status == 202, "the other trigger was stopped"
                others[0] += 1

        before = anonymous_mib(daemon)
        join = in_threads(1, go_on)
        try:
            sender, taken = Sender(daemon, "/one"), 0
            answer = sender.post(BODY)
            while answer.status == 202:
                taken += 1
                assert taken <= QUOTA // len(BODY), "more than the journal's share was taken"
                answer = sender.post(BODY)
            assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0, answer.status
            held = trigger(daemon, "one")["unsettled_bytes"]
            assert held + 2 * len(BODY) > QUOTA, f"503 at {held} of {QUOTA} bytes"
            wait_until("the handler hangs", (folder / "hangs").exists)
            wait_until("the one beside it", lambda: functions(daemon)["beside"]["delivered"] == taken)
            assert functions(daemon)["hung"]["delivered"] == 0
            more = anonymous_mib(daemon) - before
            assert more < MEMORY_MIB, f"{more} MiB of memory hold {held >> 20} MiB of events"
            seen = others[0]
            wait_until("the other trigger goes on", lambda: others[0] > seen)
            wait_until("and its function",
                       lambda: functions(daemon)["other"]["delivered"] > seen)
        finally:
            is_over.set()
            join()
        (folder / "go").touch()
        wait_until("the intake opens", lambda: sender.post(BODY).status == 202)
        settle(daemon, "hung", taken + 1)
        settle(daemon, "other", others[0])
        print(f"{taken} of {len(BODY) >> 10} KiB taken, {more} MiB more memory, "
              f"{others[0]} for the other", flush=True)


# ---- a stranger at the file ----

LOADED = LISTEN + """
triggers:
  hooks:
    webhook: { path: /hooks, dialect: json, insecure: true }
functions:
  takes:
    from: hooks
    python: hangs.py:goes
    order: none
    batch: { size: 64 }
"""


def look(database, how, text):
    """What SQLite says to a stranger; None: it was done."""
    stranger = sqlite3.connect(f"file:{database}{how}", uri=True, timeout=0)
    try:
        stranger.execute(text).fetchall()
        stranger.commit()
        return None
    except sqlite3.OperationalError as error:
        return str(error)
    finally:
        stranger.close()


def o_d5_a_stranger_is_locked_out_and_disturbs_nothing(program, folder):
    (folder / "hangs.py").write_text(HANGS)
    database = folder / "state" / "headrace.db"
    reading = "SELECT count(*) FROM feed"
    texts = [reading, "DELETE FROM checkpoint", "CREATE TABLE mine (a)", "VACUUM"]
    with Daemon(program, folder, LOADED) as daemon:
        is_over, kept = threading.Event(), [0, 0]

        def post(number):
            sender = Sender(daemon, "/hooks")
            while not is_over.is_set():
                assert sender.post(b'{"n": 1}').status == 202
                kept[number] += 1

        join = in_threads(2, post)
        try:
            for round_number in range(50):
                for text in texts:
                    for how in ("", "?mode=ro"):
                        said = look(database, how, text)
                        assert said and "locked" in said, f"{text} ({how}): {said}"
                last = sum(kept)
                wait_until("the load goes on", lambda: sum(kept) > last)
        finally:
            is_over.set()
            join()
        settle(daemon, "takes", sum(kept))
        assert not [line for line in daemon.lines if " ERROR " in line], daemon.lines
    assert look(database, "?mode=ro", reading) is None, "it was not the daemon that locked it"
    with daemon:
        assert functions(daemon)["takes"]["delivered"] == sum(kept)


# ---- a peer whose answer is lost ----

FORWARDS = LISTEN + """
triggers:
  hooks:
    webhook: { path: /hooks, dialect: json, insecure: true }
functions:
  forward:
    from: hooks
    http: http://127.0.0.1:%(port)d/in
    order: none
    concurrency: 8
    retry: { attempts: 3, backoff: 10ms..20ms }
  after:
    from: forward
    python: hangs.py:writes
"""

DID = b'{"did": "the work"}'
ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
              % (len(DID), DID),
    "chunks": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
              b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n5\r\n     \r\n0\r\n\r\n"
              % (len(DID), DID),
}


class Peer(socketserver.StreamRequestHandler):
    """Does the work of each request; the first answer to an event ends after so many bytes."""

    work = {}  # ce-source, ce-id -> the bodies it was done for
    lock = threading.Lock()

    def handle(self):
        while True:
            head = {}
            line = self.rfile.readline()
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode().partition(":")
                head[name.lower()] = value.strip()
            if not head:
                return
            body = self.rfile.read(int(head["content-length"]))
            with self.lock:
                done = self.work.setdefault((head["ce-source"], head["ce-id"]), [])
                done.append(body)
                is_first = len(done) == 1
            data = json.loads(body)
            answer = ANSWERS[data["form"]]
            self.wfile.write(answer[:data["cut"]] if is_first else answer)
            self.wfile.flush()
            if is_first:
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


def o_f4_an_event_whose_answer_is_cut_comes_again_under_its_id(program, folder):
    """Of each answer each number of bytes but all arrives; the work was done. (For libcurl, chunks
    are whole without their last line feed.) Ten at a time: every first attempt fails, and twenty
    that fail before one comes again would open the circuit breaker (S11)."""
    (folder / "hangs.py").write_text(HANGS)
    peer = Server(("127.0.0.1", 0), Peer)
    threading.Thread(target=peer.serve_forever, daemon=True).start()
    with Daemon(program, folder, FORWARDS % {"port": peer.server_address[1]}) as daemon:
        sender, sent = Sender(daemon, "/hooks"), []
        for form, answer in ANSWERS.items():
            for cut in range(len(answer) - (form == "chunks")):
                sent.append(b'{"form": "%s", "cut": %d}' % (form.encode(), cut))
                assert sender.post(sent[-1]).status == 202
                if len(sent) % 10 == 0:
                    settle(daemon, "forward", len(sent))
        settle(daemon, "forward", len(sent))
        settle(daemon, "after", len(sent))
    peer.shutdown()
    peer.server_close()
    bodies = [set(done) for done in Peer.work.values()]
    assert len(Peer.work) == len(sent), f"{len(Peer.work)} ids for {len(sent)} events"
    assert all(len(one) == 1 for one in bodies) and set().union(*bodies) == set(sent)
    once = [done[0] for done in Peer.work.values() if len(done) != 2]
    assert not once, f"a cut answer counted as one, or one too many was sent: {sorted(once)}"
    results = [line.strip() for line in (folder / "results").read_text().splitlines()]
    assert results == [DID.decode()] * len(sent), sorted(set(results))


# ---- a disk that keeps nothing ----


def o_d3_a_state_in_memory_says_so(program, folder):
    with tempfile.TemporaryDirectory(prefix="headrace-", dir="/dev/shm") as memory:
        folder = pathlib.Path(memory)
        (folder / "hangs.py").write_text(HANGS)
        with Daemon(program, folder, LOADED) as daemon:
            said = daemon.wait_line("is in memory")
            assert " warn  store: " in said and str(folder / "state") in said, said
            sender = Sender(daemon, "/hooks")
            for _ in range(20):
                assert sender.post(b'{"n": 1}').status == 202
            sync_us = daemon.ask("status")["store"]["sync_us"]
            assert sync_us > 0, sync_us
            assert not [line for line in daemon.lines if "a sync of" in line], daemon.lines


def main():
    program, only = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        for number, claim in enumerate([
            o_s3_a_handler_that_hangs_delays_no_202,
            o_f5_a_function_that_hangs_stops_its_source_at_the_bound_and_nobody_else,
            o_d5_a_stranger_is_locked_out_and_disturbs_nothing,
            o_f4_an_event_whose_answer_is_cut_comes_again_under_its_id,
            o_d3_a_state_in_memory_says_so,
        ]):
            if only and claim.__name__ not in only:
                continue
            began = time.monotonic()
            own = pathlib.Path(folder) / str(number)
            own.mkdir()
            claim(program, own)
            print(f"ok {claim.__name__}, {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()

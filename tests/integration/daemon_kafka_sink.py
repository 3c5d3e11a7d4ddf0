#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The function `kafka` against a real broker: events become records and come back as the same
events; a broker that is away uses no attempt up; a record it never takes is a dead letter.

Usage: daemon_kafka_sink.py HEADRACE
"""
import collections
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "lib"))
from daemon import LIMIT_S, Daemon, free_port  # noqa: E402

SERVICE = TESTS / "services" / "kafka.sh"
CONFIG = """
settings:
  listen: 127.0.0.1:0
triggers:
  posts:
    webhook: { path: /posts, dialect: cloudevents, insecure: true, max_body: 4MiB }
  back:
    kafka: { brokers: "127.0.0.1:%(port)d", topics: alarms, start: earliest }
functions:
  out:
    from: posts
    kafka:
      brokers: 127.0.0.1:%(port)d
      topic: alarms
      mode: %(mode)s
    batch: { size: 64 }
    timeout: 4s
    retry: { attempts: 2, backoff: 10ms..20ms }
  seen:
    from: back
    shell: 'echo "$CE_ID $CE_SOURCE $CE_TYPE $CE_FLOOR $CE_PARTITIONKEY $(cat)" >&2'
    concurrency: 1
"""


def wait_until(what, holds, limit_s=LIMIT_S):
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.05)  # between looks; nothing rests on its length


def post(daemon, number, data=None):
    event = {"specversion": "1.0", "id": f"e{number}", "source": "test/sink", "type": "alarm",
             "floor": 2, "partitionkey": f"k{number % 3}", "datacontenttype": "application/json",
             "data": data if data is not None else {"n": number}}
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=LIMIT_S)
    connection.request("POST", "/posts", json.dumps(event),
                       {"Content-Type": "application/cloudevents+json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 202, answer.status


def function(daemon, name):
    return next(f for f in daemon.ask("status")["functions"] if f["name"] == name)


def lines(daemon):
    done = subprocess.run(daemon._words("logs", "seen", "--json", "--limit", "1000"),
                          stdout=subprocess.PIPE, text=True, check=True)
    value = json.loads(done.stdout)
    rows = value if isinstance(value, list) else value.get("lines", value.get("logs", []))
    return [row["text"] for row in rows]


def events_come_back_as_they_were(program, folder, port, broker):
    mode = "binary"
    with Daemon(program, folder, CONFIG % {"port": port, "mode": mode}) as daemon:
        for number in range(20):
            post(daemon, number)
        wait_until("20 came back", lambda: function(daemon, "seen")["delivered"] == 20)
        got = lines(daemon)
        want = {f'e{n} test/sink alarm 2 k{n % 3} {{"n": {n}}}' for n in range(20)}
        assert set(got) == want, sorted(got)[:3]
        out = function(daemon, "out")
        assert (out["delivered"], out["dead"], out["drift"]) == (20, 0, 0), out
    records = subprocess.run(
        ["kcat", "-C", "-b", f"127.0.0.1:{port}", "-t", "alarms", "-e", "-q", "-f", "%k %h %s\\n"],
        stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    if mode == "binary":
        assert any("k1 ce_specversion=1.0,ce_id=e1,ce_source=test/sink,ce_type=alarm" in r
                   and "content-type=application/json" in r and r.endswith('{"n": 1}')
                   for r in records), records[:2]


def records(port):
    """The ids in the topic, with how often."""
    found = subprocess.run(
        ["kcat", "-C", "-b", f"127.0.0.1:{port}", "-t", "alarms", "-e", "-q", "-f", "%h\\n"],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    return collections.Counter(re.findall(r"ce_id=([^,\n]+)", found))


def wait_tried(daemon, before):
    """Until the first event of each of three keys was tried four times: `attempts` is 2."""
    wait_until("each was tried four times",
               lambda: function(daemon, "out")["attempts"] >= before + 4 * 3)


def wait_went(daemon, count):
    """The circuit breaker may wait for a minute."""
    wait_until(f"{count} went", lambda: function(daemon, "out")["delivered"] == count, 3 * LIMIT_S)


def o_k4_a_broker_that_was_never_there_loses_nothing(program, folder, port, broker):
    """Down before the producer's first connect."""
    subprocess.run([SERVICE, "kill9", broker], check=True)
    with Daemon(program, folder, CONFIG % {"port": port, "mode": "binary"}) as daemon:
        for number in range(300, 320):
            post(daemon, number)
        wait_tried(daemon, 0)
        out = function(daemon, "out")
        assert (out["delivered"], out["dead"], out["pending"]) == (0, 0, 20), out
        subprocess.run([SERVICE, "start", broker, str(port)], check=True, stdout=sys.stderr)
        wait_went(daemon, 20)
        out = function(daemon, "out")
        assert (out["dead"], out["drift"]) == (0, 0), out
    found = records(port)
    assert {f"e{n}" for n in range(300, 320)} <= set(found), found


def o_k4_a_broker_that_goes_before_the_send_uses_no_attempts(program, folder, port, broker):
    """Down after the connect."""
    with Daemon(program, folder, CONFIG % {"port": port, "mode": "binary"}) as daemon:
        post(daemon, 100)
        wait_went(daemon, 1)
        subprocess.run([SERVICE, "kill9", broker], check=True)
        for number in range(101, 121):
            post(daemon, number)
        wait_until("its reason", lambda: function(daemon, "out").get("reason"))
        wait_tried(daemon, 1)
        out = function(daemon, "out")
        assert (out["delivered"], out["dead"], out["pending"]) == (1, 0, 20), out
        subprocess.run([SERVICE, "start", broker, str(port)], check=True, stdout=sys.stderr)
        wait_went(daemon, 21)
        out = function(daemon, "out")
        assert (out["dead"], out["drift"]) == (0, 0), out
        wait_until("it is well again", lambda: not function(daemon, "out").get("reason"))
    found = records(port)
    assert {f"e{n}" for n in range(100, 121)} <= set(found), found


class Replies:
    """A proxy before the broker that can keep the answers of the connections there are."""

    def __init__(self, to_port):
        self.to_port = to_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.pairs = []  # [client, broker, is_held]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self.to_port))
            except OSError:
                client.close()
                continue
            pair = [client, broker, False]
            with self.lock:
                self.pairs.append(pair)
            for way in ((client, broker, None), (broker, client, pair)):
                threading.Thread(target=self._move, args=way, daemon=True).start()

    @staticmethod
    def _move(source, to, held):
        try:
            while data := source.recv(65536):
                if held is None or not held[2]:
                    to.sendall(data)
        except OSError:
            pass
        for end in (source, to):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def hold(self):
        """What the broker answers on these connections goes nowhere from now on."""
        with self.lock:
            for pair in self.pairs:
                pair[2] = True

    def cut(self):
        """Those that are held end."""
        with self.lock:
            for client, broker, is_held in self.pairs:
                if is_held:
                    for end in (client, broker):
                        try:
                            end.shutdown(socket.SHUT_RDWR)
                        except OSError:
                            pass

    def close(self):
        self.listener.close()
        self.hold()
        self.cut()


def o_k4_what_was_sent_and_not_reported_is_sent_again(program, folder, port, broker):
    """The records are in the topic, their report is on the way: the connection ends, or the broker
    dies. They are sent again. A broker that lives knows them by their numbers; one that died may
    not, and may call that an error which no producer survives: another takes its place."""
    replies = Replies(port)
    advertised = (f"advertised.listeners=PLAINTEXT://127.0.0.1:{replies.port},"
                  f"SASL://127.0.0.1:{port + 2},TLS://127.0.0.1:{port + 3},"
                  f"SASLTLS://127.0.0.1:{port + 4}")
    environment = {**os.environ, "KAFKA_EXTRA": advertised}

    def start():
        subprocess.run([SERVICE, "start", broker, str(port)], check=True, stdout=sys.stderr,
                       env=environment)

    subprocess.run([SERVICE, "stop", broker], check=True)
    start()
    try:
        config = CONFIG.replace("timeout: 4s", "timeout: 60s") % {"port": replies.port,
                                                                  "mode": "binary"}
        with Daemon(program, folder, config) as daemon:
            first = 400
            for is_killed in (False, True):
                delivered = function(daemon, "out")["delivered"]
                post(daemon, first)
                wait_went(daemon, delivered + 1)
                replies.hold()
                for number in range(first + 1, first + 21):
                    post(daemon, number)
                ids = {f"e{n}" for n in range(first, first + 21)}
                wait_until("the broker has the first of each of three keys",
                           lambda ids=ids: len(ids & set(records(port))) >= 1 + 3)
                out = function(daemon, "out")
                assert (out["delivered"], out["pending"]) == (delivered + 1, 20), out
                if is_killed:
                    subprocess.run([SERVICE, "kill9", broker], check=True)
                replies.cut()
                if is_killed:
                    start()
                wait_went(daemon, delivered + 21)
                out = function(daemon, "out")
                assert (out["dead"], out["pending"], out["drift"]) == (0, 0, 0), out
                found = records(port)
                times = {found[id_] for id_ in ids}
                print(f"  {'the broker died' if is_killed else 'the connection ended'}: each is in "
                      f"the topic {times} times", flush=True)
                assert times == {1} or (is_killed and min(times) == 1), found
                first += 100
    finally:
        replies.close()
        subprocess.run([SERVICE, "stop", broker], check=True)
        subprocess.run([SERVICE, "start", broker, str(port)], check=True, stdout=sys.stderr)


def a_record_that_is_too_large_is_a_dead_letter(program, folder, port, broker):
    with Daemon(program, folder, CONFIG % {"port": port, "mode": "binary"}) as daemon:
        post(daemon, 200, {"much": "x" * 3_000_000})
        post(daemon, 201)
        wait_until("both ended", lambda: function(daemon, "out")["pending"] == 0)
        out = function(daemon, "out")
        assert (out["delivered"], out["dead"]) == (1, 1), out
        assert "too large" in json.dumps(daemon.ask("dlq", "ls")).lower()


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root)
        port, broker = free_port(), folder / "kafka"
        subprocess.run([SERVICE, "start", broker, str(port)], check=True, stdout=sys.stderr)
        try:
            subprocess.run([SERVICE, "topic", str(port), "alarms", "3"], check=True,
                           stdout=sys.stderr)
            tests = (
                events_come_back_as_they_were,
                o_k4_a_broker_that_was_never_there_loses_nothing,
                o_k4_a_broker_that_goes_before_the_send_uses_no_attempts,
                o_k4_what_was_sent_and_not_reported_is_sent_again,
                a_record_that_is_too_large_is_a_dead_letter,
            )
            for test in tests:
                if len(sys.argv) < 3 or sys.argv[2] in test.__name__:
                    test(program, folder / test.__name__, port, broker)
                    print(f"ok {test.__name__}", flush=True)
        finally:
            subprocess.run([SERVICE, "stop", broker], check=False)


if __name__ == "__main__":
    main()

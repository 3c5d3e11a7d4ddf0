#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The function `kafka` against a real broker: events become records and come back as the same
events; a broker that is away uses no attempt up; a record it never takes is a dead letter.

Usage: daemon_kafka_sink.py HEADRACE
"""
import http.client
import json
import pathlib
import subprocess
import sys
import tempfile
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


def events_come_back_as_they_were(program, folder, port, mode):
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


def a_broker_that_is_away_uses_no_attempts(program, folder, port, broker):
    with Daemon(program, folder, CONFIG % {"port": port, "mode": "binary"}) as daemon:
        post(daemon, 100)
        wait_until("one went", lambda: function(daemon, "out")["delivered"] == 1)
        subprocess.run([SERVICE, "kill9", broker], check=True)
        for number in range(101, 121):
            post(daemon, number)
        wait_until("its reason", lambda: function(daemon, "out").get("reason"))
        time.sleep(6)  # longer than the time limit of a call: each was tried and came back
        out = function(daemon, "out")
        assert (out["delivered"], out["dead"], out["pending"]) == (1, 0, 20), out
        subprocess.run([SERVICE, "start", broker, str(port)], check=True, stdout=sys.stderr)
        wait_until("all went", lambda: function(daemon, "out")["delivered"] == 21)
        assert function(daemon, "out")["dead"] == 0
        wait_until("it is well again", lambda: not function(daemon, "out").get("reason"))


def a_record_that_is_too_large_is_a_dead_letter(program, folder, port):
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
            events_come_back_as_they_were(program, folder / "binary", port, "binary")
            print("ok events_come_back_as_they_were", flush=True)
            a_broker_that_is_away_uses_no_attempts(program, folder / "away", port, broker)
            print("ok a_broker_that_is_away_uses_no_attempts", flush=True)
            a_record_that_is_too_large_is_a_dead_letter(program, folder / "large", port)
            print("ok a_record_that_is_too_large_is_a_dead_letter", flush=True)
        finally:
            subprocess.run([SERVICE, "stop", broker], check=False)


if __name__ == "__main__":
    main()

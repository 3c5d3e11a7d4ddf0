#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two daemons of one Kafka group with stores of their own, a handler slower than the group allows,
a login, and TLS, against a real broker.

Usage: daemon_kafka_group.py HEADRACE
"""
import collections
import pathlib
import re
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "lib"))
from daemon import LIMIT_S, Daemon, free_port, whole_lines  # noqa: E402

SERVICE = TESTS / "services" / "kafka.sh"
CONFIG = """
triggers:
  records:
    kafka:
      brokers: 127.0.0.1:%(port)d
      topics: %(topic)s
      group: %(group)s
      start: earliest
      %(more)s
functions:
  note:
    from: records
    python: note.py
    batch: { size: 16 }
    retry: { attempts: 3, backoff: 10ms..20ms }
"""
HANDLER = """
import os

_log = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def handle(event, ctx):
    os.write(_log, f"{event.data['n']} {os.environ['WHO']}\\n".encode())
"""


class Member:
    """A daemon of the group."""

    def __init__(self, program, folder, who, port, topic, more, group="shared"):
        self.folder = folder / who
        self.folder.mkdir(parents=True)
        (self.folder / "note.py").write_text(HANDLER)
        config = CONFIG % {"port": port, "topic": topic, "more": more, "group": group}
        config += f"    env: {{ NOTES: {folder / 'notes'}, WHO: {who} }}\n"
        self.daemon = Daemon(program, self.folder, config)


def wait_until(what, holds, limit_s=LIMIT_S):
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.05)  # between looks; nothing rests on its length


def produce(port, topic, numbers):
    lines = "".join(f"k{n % 37}:{{\"n\":{n}}}\n" for n in numbers)
    subprocess.run(["kcat", "-P", "-b", f"127.0.0.1:{port}", "-t", topic, "-K", ":"],
                   input=lines, text=True, check=True)


def notes(folder):
    """n -> who handled it, in order."""
    seen = collections.defaultdict(list)
    for line in whole_lines(folder / "notes"):
        number, who = line.split()
        seen[int(number)].append(who)
    return seen


def drift(member):
    return [f["drift"] for f in member.daemon.ask("status")["functions"]]


def make_topic(port, topic):
    subprocess.run([SERVICE, "topic", str(port), topic, "4"], check=True, stdout=sys.stderr)


SLOW_HANDLER = """
import os
import time

_log = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def handle(event, ctx):
    os.write(_log, f"{event.data['n']} {os.environ['WHO']}\\n".encode())
    if event.data["n"] == 0:
        time.sleep(24)
        os.write(_log, f"-1 {os.environ['WHO']}\\n".encode())
"""


def troubles_of(broker, group):
    """What the broker says of members that left, failed or joined anew."""
    words = ("Preparing to rebalance", "has failed", "has left", "removing member", "fenc")
    return [line for line in (broker / "broker.log").read_text(errors="replace").splitlines()
            if group in line and any(word in line for word in words)]


def o_k3_a_handler_slower_than_the_poll_interval_stays_in_the_group(program, folder, port, broker):
    """One partition, in order: the first record takes three times max.poll.interval.ms, and more
    wait behind it than are taken ahead, so that nothing is read meanwhile. A record that is given
    up by a member of the group would come again."""
    topic, count = "slow", 40000
    subprocess.run([SERVICE, "topic", str(port), topic, "1"], check=True, stdout=sys.stderr)
    produce(port, topic, range(count))
    more = 'properties: { session.timeout.ms: "6000", max.poll.interval.ms: "8000" }'
    first, second = (Member(program, folder, who, port, topic, more, "slowly")
                     for who in ("first", "second"))
    for member in (first, second):
        member.daemon.config.write_text(
            member.daemon.config.read_text().replace("batch: { size: 16 }",
                                                     "batch: { size: 512 }\n    order: feed\n"
                                                     "    timeout: 60s"))
        (member.folder / "note.py").write_text(SLOW_HANDLER)
    with first.daemon as daemon:
        wait_until("it is called", lambda: 0 in notes(folder))
        before = troubles_of(broker, "slowly")
        assert before, "the broker says nothing of groups"
        wait_until("it has ended", lambda: -1 in notes(folder))
        wait_until("all is handled", lambda: len(notes(folder)) == count + 1)
        assert troubles_of(broker, "slowly") == before, troubles_of(broker, "slowly")
        assert not [line for line in daemon.lines if re.search("is down|max.poll|fenced", line)]
        assert {len(who) for who in notes(folder).values()} == {1}
        function = daemon.ask("status")["functions"][0]
        assert (function["delivered"], function["drift"]) == (count, 0), function
    with second.daemon:  # without a state: where the group stands
        produce(port, topic, [count])
        wait_until("one more", lambda: count in notes(folder))
    assert {len(who) for who in notes(folder).values()} == {1}


def o_k1_what_one_leaves_another_goes_on_with(program, folder, port, broker):
    topic = "shared"
    make_topic(port, topic)
    more = 'properties: { session.timeout.ms: "6000" }'
    one, two = (Member(program, folder, who, port, topic, more) for who in ("one", "two"))
    one.daemon.start()
    two.daemon.start()
    produce(port, topic, range(2000))
    wait_until("2000 are handled", lambda: len(notes(folder)) == 2000)
    wait_until("both have some", lambda: produce(port, topic, range(2000, 2100)) or
               {who for all_ in notes(folder).values() for who in all_} == {"one", "two"})
    produce(port, topic, range(3000, 5000))
    one.daemon.stop()  # in the middle of it
    produce(port, topic, range(5000, 6000))
    wait_until("the other has all", lambda: all(n in notes(folder) for n in range(3000, 6000)))
    after_stop = sum(len(who) - 1 for n, who in notes(folder).items() if n >= 3000)
    one.daemon.start()
    produce(port, topic, range(6000, 9000))
    two.daemon.kill9()
    wait_until("the first has all", lambda: all(n in notes(folder) for n in range(6000, 9000)))
    after_kill = sum(len(who) - 1 for n, who in notes(folder).items() if n >= 6000)
    assert set(drift(one)) == {0}, drift(one)
    one.daemon.stop()
    assert after_stop <= 200, after_stop
    assert after_kill <= 3000, after_kill
    print(f"  handled twice: {after_stop} after SIGTERM, {after_kill} after SIGKILL", flush=True)


def a_login_is_asked_for_and_told(program, folder, port, broker):
    topic = "secret"
    make_topic(port, topic)
    produce(port, topic, range(10))
    login = "username: bob, password: %s, mechanism: PLAIN"
    for password, is_right in [("wrong", False), ("bob-secret", True)]:
        member = Member(program, folder, f"bob-{is_right}", port + 2, topic,
                        (login % password).replace(", ", "\n      "))
        with member.daemon as daemon:
            def trigger(daemon=daemon):
                return daemon.ask("status")["triggers"][0]
            if is_right:
                wait_until("the records", lambda: len(notes(folder)) == 10)
                assert trigger()["state"] == "up"
            else:
                wait_until("why not", lambda: "uthentication" in (trigger().get("reason") or ""))
                assert trigger()["state"] == "down" and not notes(folder)
    member = Member(program, folder, "alice", port + 2, topic,
                    "username: alice\n      password: alice-secret\n      "
                    "mechanism: SCRAM-SHA-256")
    with member.daemon as daemon:
        wait_until("the limit of SCRAM", lambda: "2.6.1" in
                   (daemon.ask("status")["triggers"][0].get("reason") or ""))


def tls_is_asked_for_and_told(program, folder, port, broker):
    topic = "sealed"
    make_topic(port, topic)
    produce(port, topic, range(10))
    tls = broker / "tls"
    mine = f"cert: {tls}/client.pem, key: {tls}/key.pem"
    login = "username: bob\n      password: bob-secret\n      mechanism: PLAIN\n      "
    cases = [  # why not (None: the records come), port, more
        ("ertificate|handshake", port + 3, f"tls: {{ ca: {tls}/other-ca.pem, {mine} }}"),
        ("ertificate|handshake", port + 3, f"tls: {{ ca: {tls}/ca.pem }}"),
        (None, port + 3, f"tls: {{ ca: {tls}/ca.pem, {mine} }}"),
        (None, port + 3, f"tls: {{ ca: {tls}/other-ca.pem, verify: false, {mine} }}"),
        ("write `tls:`", port + 3, ""),
        ("ertificate|handshake", port + 4, login + f"tls: {{ ca: {tls}/other-ca.pem }}"),
        (None, port + 4, login + f"tls: {{ ca: {tls}/ca.pem }}"),
    ]
    for number, (why_not, at, more) in enumerate(cases):
        own = folder / str(number)
        own.mkdir()
        member = Member(program, own, "sealed", at, topic, more, f"sealed-{number}")
        with member.daemon as daemon:
            def trigger(daemon=daemon):
                return daemon.ask("status")["triggers"][0]
            if why_not is None:
                wait_until(f"the records of case {number}", lambda: len(notes(own)) == 10)
                assert trigger()["state"] == "up"
            else:
                wait_until(f"why not, of case {number}",
                           lambda: re.search(why_not, trigger().get("reason") or ""))
                assert trigger()["state"] == "down" and not notes(own)
                print(f"  {trigger()['reason']}", flush=True)


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        port, broker = free_port(), root / "kafka"
        subprocess.run([SERVICE, "start", broker, str(port)], check=True, stdout=sys.stderr)
        try:
            for claim in (o_k1_what_one_leaves_another_goes_on_with,
                          o_k3_a_handler_slower_than_the_poll_interval_stays_in_the_group,
                          a_login_is_asked_for_and_told, tls_is_asked_for_and_told):
                if len(sys.argv) > 2 and sys.argv[2] not in claim.__name__:
                    continue
                folder = root / claim.__name__
                folder.mkdir()
                claim(program, folder, port, broker)
                print("ok", claim.__name__, flush=True)
        finally:
            subprocess.run([SERVICE, "stop", broker], check=False)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The real daemon and MQTT brokers: crashes in the middle of QoS 2 (a broker that does what the
test says), a session that the broker lost (a real mosquitto, killed), a slow disk, QoS 0 and a full
journal.

Usage: daemon_mqtt.py HEADRACE
"""
import collections
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "lib"))
from daemon import LIMIT_S, Daemon, free_port, whole_lines  # noqa: E402
from mqtt_script import PUBACK, PUBCOMP, PUBREC, PUBREL, Broker  # noqa: E402

MOSQUITTO = TESTS / "services" / "mosquitto.sh"
CONFIG = """
settings:
  admin: 127.0.0.1:0
%(settings)s
triggers:
  things:
    mqtt:
      url: mqtt://127.0.0.1:%(port)d
      topic: t/#
      client_id: things
%(mqtt)s
%(trigger)s
functions:
  note:
    from: things
    python: note.py
    batch: { size: 64 }
    env: { NOTES: %(notes)s }
"""
HANDLER = """
import os

_log = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def handle(event, ctx):
    os.write(_log, f"{event.data['n']}/{event.id}\\n".encode())
"""


def wait_until(what, holds, limit_s=LIMIT_S):
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.02)  # between looks; nothing rests on its length


class Things(Daemon):
    """A daemon with one MQTT trigger and a handler that writes down each n."""

    def __init__(self, program, folder, port, mqtt="", trigger="", settings=""):
        folder.mkdir(parents=True)
        (folder / "note.py").write_text(HANDLER)
        self.notes = folder / "notes"
        super().__init__(program, folder, CONFIG % {
            "port": port, "mqtt": mqtt, "trigger": trigger, "settings": settings,
            "notes": self.notes})

    def trigger(self):
        return self.ask("status")["triggers"][0]

    def function(self):
        return self.ask("status")["functions"][0]

    def metric(self, name):
        page = urllib.request.urlopen(self.url("/metrics"), timeout=LIMIT_S).read().decode()
        values = [line.split()[-1] for line in page.splitlines()
                  if line.startswith(f'headrace_{name}{{trigger="things"}}')]
        return int(values[0])

    def handled(self):
        """n -> of how many events. The same event may be handled twice when the daemon is killed."""
        lines = set(whole_lines(self.notes))
        return collections.Counter(int(line.partition("/")[0]) for line in lines)

    def wait_handled(self, *numbers):
        wait_until(f"{numbers} are handled", lambda: set(numbers) <= set(self.handled()))

    def rest(self):
        """Waits until nothing is pending."""
        wait_until("nothing is pending", lambda: self.function()["pending"] == 0)
        assert self.function()["drift"] == 0


def body(number):
    return json.dumps({"n": number}).encode()


class Crashes:
    """A daemon of a scripted broker that is killed and comes back."""

    def __init__(self, daemon, broker):
        self.daemon, self.broker, self.peer = daemon, broker, None

    def begin(self, session_present):
        self.daemon.start()
        self.peer = self.broker.accept(session_present)

    def crash(self):
        """What the broker sent and was not told "yours" it sends again, and so PUBRELs."""
        self.daemon.kill9()
        self.peer.close()
        self.begin(session_present=True)

    def cut(self):
        """Only the connection ends."""
        self.peer.close()
        self.peer = self.broker.accept(session_present=True, subscribes=False)

    def publish(self, n, number, is_again=False):
        self.peer.publish(number, 2, body(n), is_again)

    def finish(self, number):
        self.peer.send(PUBREL, number)
        self.peer.expect(PUBCOMP, number)


@contextlib.contextmanager
def crashes(program, folder, mqtt, trigger=""):
    """Crashes of a daemon that has begun; what it said is shown when the test fails."""
    broker = Broker()
    it = Crashes(Things(program, folder, broker.port, mqtt, trigger), broker)
    try:
        it.begin(session_present=False)
        yield it
        it.peer.close()
        it.daemon.stop()
    finally:
        if it.daemon.process is not None:
            it.daemon.kill9()
            print("\n".join(it.daemon.lines[-40:]), file=sys.stderr)
        broker.close()


def qos_2(program, folder, is_deduped):
    """Over MQTT 5, where a PUBREC leaves after the commit: at each point between the packets the
    daemon dies; the broker goes on as a broker does whose session is there."""
    dedupe = "    dedupe: { by: data.n }" if is_deduped else ""
    with crashes(program, folder, "      qos: 2\n      version: 5", dedupe) as it:
        assert [option & 3 for option in it.peer.asked] == [2], it.peer.asked
        it.publish(1, 1)  # whole
        it.peer.expect(PUBREC, 1)
        it.finish(1)
        it.publish(2, 2)  # it dies at any moment before its PUBREC
        it.crash()
        it.publish(2, 2, is_again=True)
        it.peer.expect(PUBREC, 2)
        it.finish(2)
        it.publish(3, 3)  # durable, and its PUBREC did not arrive
        it.peer.expect(PUBREC, 3)
        it.crash()
        it.publish(3, 3, is_again=True)
        it.peer.expect(PUBREC, 3)
        it.finish(3)
        it.publish(4, 4)  # between PUBREC and PUBREL
        it.peer.expect(PUBREC, 4)
        it.crash()
        it.finish(4)
        it.publish(5, 5)  # between PUBREL and PUBCOMP
        it.peer.expect(PUBREC, 5)
        it.peer.send(PUBREL, 5)
        it.crash()
        it.finish(5)
        it.publish(6, 6)  # its PUBCOMP did not arrive
        it.peer.expect(PUBREC, 6)
        it.finish(6)
        it.crash()
        it.finish(6)
        it.publish(7, 6)  # a number that is free again is a new message
        it.peer.expect(PUBREC, 6)
        it.finish(6)
        it.publish(8, 8)  # the connection alone: what was taken over does not come twice
        it.peer.expect(PUBREC, 8)
        it.cut()
        it.publish(8, 8, is_again=True)
        it.peer.expect(PUBREC, 8)
        it.cut()
        it.finish(8)
        it.daemon.wait_handled(*range(1, 9))
        it.daemon.rest()
        handled = it.daemon.handled()
        assert set(handled) == set(range(1, 9)), handled
        assert handled[2] <= (1 if is_deduped else 2), handled
        want = {n: 2 if n == 3 and not is_deduped else 1 for n in range(1, 9) if n != 2}
        assert {n: handled[n] for n in want} == want, handled
        assert it.daemon.trigger()["sessions_lost"] == 0


def o_m2_s18_a_crash_between_the_packets_of_qos_2_loses_nothing(program, folder):
    qos_2(program, folder, is_deduped=False)


def o_m2_s18_with_dedupe_no_crash_in_qos_2_repeats_an_event(program, folder):
    qos_2(program, folder, is_deduped=True)


def o_m2_s18_over_3_1_1_qos_2_is_1_and_a_crash_loses_nothing(program, folder):
    """There the library says PUBREC before anything is durable, so QoS 2 is never asked for."""
    for is_deduped in (False, True):
        dedupe = "    dedupe: { by: data.n }" if is_deduped else ""
        with crashes(program, folder / str(is_deduped), "      qos: 2\n      version: 3.1.1",
                     dedupe) as it:
            assert it.peer.version == 4 and it.peer.asked == [1], it.peer.asked
            it.peer.publish(1, 1, body(1))  # dies at any moment before its PUBACK
            it.crash()
            assert it.peer.asked == [1], it.peer.asked
            it.peer.publish(1, 1, body(1), is_again=True)
            it.peer.expect(PUBACK, 1)
            it.peer.publish(2, 1, body(2))  # durable, and its PUBACK did not arrive
            it.peer.expect(PUBACK, 2)
            it.crash()
            it.peer.publish(2, 1, body(2), is_again=True)
            it.peer.expect(PUBACK, 2)
            it.daemon.wait_handled(1, 2)
            it.daemon.rest()
            handled = it.daemon.handled()
            assert handled[1] in ((1,) if is_deduped else (1, 2)), handled
            assert handled[2] == (1 if is_deduped else 2), handled


def o_m3_m2_a_number_of_a_lost_session_is_no_message_seen_before(program, folder):
    """QoS 2 under way when the broker forgot the session: the new session's message of the same
    number is another one."""
    with crashes(program, folder, "      qos: 2\n      version: 5") as it:
        it.publish(1, 1)
        it.peer.expect(PUBREC, 1)
        it.peer.close()
        it.peer = it.broker.accept(session_present=False)
        it.publish(2, 1)
        it.peer.expect(PUBREC, 1)
        it.finish(1)
        it.daemon.wait_handled(1, 2)
        assert it.daemon.trigger()["sessions_lost"] == 1


def publish(port, *numbers):
    subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", "t/a",
                    "-l"], input="".join(f'{{"n":{n}}}\n' for n in numbers), text=True, check=True)


def o_m3_a_lost_session_is_told_and_counted(program, folder):
    """A mosquitto that is killed with -9 has forgotten, as it saves its sessions each half hour."""
    port, home = free_port(), folder / "mosquitto"

    def broker(verb):
        subprocess.run([MOSQUITTO, verb, home, str(port)], check=True, stdout=sys.stderr)

    broker("start")
    try:
        with Things(program, folder / "daemon", port) as daemon:
            def lost_lines():
                return [line for line in daemon.lines if "knows our session no more" in line]

            def up_again(since):
                daemon.wait_line("things: mqtt is up", since)

            up_again(0)
            publish(port, 1)
            daemon.wait_handled(1)
            assert daemon.trigger()["sessions_lost"] == 0 and not lost_lines()  # the first connect
            assert daemon.metric("mqtt_sessions_lost_total") == 0

            since = len(daemon.lines)  # under a running daemon
            broker("kill9")
            daemon.wait_line("things: mqtt is down", since)
            broker("start")
            up_again(since)
            line = daemon.wait_line("knows our session no more", since)
            for part in ("warn", "'things'", "published since 2", "subscribed anew", "docs/mqtt.md"):
                assert part in line, (part, line)
            assert daemon.trigger()["sessions_lost"] == 1
            assert daemon.metric("mqtt_sessions_lost_total") == 1
            shown = subprocess.run(daemon._words("status"), stdout=subprocess.PIPE, text=True,
                                   check=True).stdout
            assert "sessions lost 1" in shown, shown
            publish(port, 2)
            daemon.wait_handled(2)

            daemon.kill9()  # between two lives of the daemon: its state knows that there was one
            broker("kill9")
            broker("start")
            publish(port, 3)  # for nobody
            since = len(daemon.lines)
            daemon.start()
            up_again(since)
            line = daemon.wait_line("knows our session no more", since)
            assert "while headrace did not run" in line, line
            assert daemon.trigger()["sessions_lost"] == 1
            publish(port, 4)
            daemon.wait_handled(4)
            daemon.rest()
            assert 3 not in daemon.handled()

            daemon.stop()  # a broker that keeps it: nothing is told, and nothing is lost
            publish(port, 5)
            broker("stop")
            broker("start")
            publish(port, 6)
            told, since = len(lost_lines()), len(daemon.lines)
            daemon.start()
            up_again(since)
            daemon.wait_handled(5, 6)
            assert daemon.trigger()["sessions_lost"] == 0 and len(lost_lines()) == told == 2
    finally:
        broker("stop")


def o_m3_without_a_session_none_is_missed(program, folder):
    broker = Broker()
    try:
        with Things(program, folder, broker.port, "      session: 0s") as daemon:
            peer = broker.accept()
            peer.close()
            peer = broker.accept()
            peer.publish(1, 1, body(1))
            peer.expect(PUBACK, 1)
            daemon.wait_handled(1)
            assert daemon.trigger()["sessions_lost"] == 0
            assert not [line for line in daemon.lines if "session no more" in line]
            peer.close()
    finally:
        broker.close()


def o_m4_a_slow_disk_ends_no_connection(program, folder):
    """Each sync takes two seconds: acknowledgements wait so long, and the connection stays."""
    broker = Broker()
    try:
        with Things(program, folder, broker.port) as daemon:
            peer = broker.accept()
            slow = subprocess.Popen(
                ["strace", "-f", "-p", str(daemon.process.pid), "-o", "/dev/null", "-e",
                 "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=2000000"],
                stderr=subprocess.PIPE, text=True)
            try:
                line = slow.stderr.readline()
                assert "attached" in line, line
                for n in range(1, 4):
                    begin = time.monotonic()
                    peer.publish(n, 1, body(n))
                    peer.expect(PUBACK, n)
                    took = time.monotonic() - begin
                    assert took > 1.9, f"a PUBACK after {took:.2f} s: before its commit"
                for n in range(4, 200):
                    peer.publish(n, 1, body(n))
                for n in range(4, 200):
                    peer.expect(PUBACK, n)
            finally:
                slow.terminate()
                slow.communicate(timeout=LIMIT_S)
            daemon.wait_handled(*range(1, 200))
            daemon.rest()
            assert set(daemon.handled().values()) == {1}
            assert not [line for line in daemon.lines if "mqtt is down" in line]
            peer.close()
    finally:
        broker.close()


def o_m5_of_qos_0_dropped_and_handled_are_sent(program, folder):
    """A journal of little room and messages of QoS 0 as fast as they are read: what finds no room
    is dropped and counted, the connection stays, and the broker is not read while there is none."""
    broker, total = Broker(), 20000
    try:
        with Things(program, folder, broker.port, "      qos: 0",
                    settings="  journal: { max_bytes: 4MiB }") as daemon:
            peer = broker.accept()
            assert [option & 3 for option in peer.asked] == [0]
            pad = "x" * 1000
            for n in range(total):  # sendall() waits while nobody reads
                peer.publish(0, 0, json.dumps({"n": n, "pad": pad}).encode())

            def is_through():
                it = daemon.trigger()
                return it["received"] + it["dropped"] >= total
            wait_until("all came or were dropped", is_through)
            daemon.rest()
            it, handled = daemon.trigger(), daemon.handled()
            print(f"  {it['dropped']} of {total} dropped", flush=True)
            assert it["received"] + it["dropped"] == total, it
            assert 0 < it["dropped"] < total, it
            assert len(handled) == it["received"] and set(handled.values()) == {1}
            assert it["state"] == "up" and daemon.metric("mqtt_dropped_total") == it["dropped"]
            assert any("QoS 0 could not be kept" in line for line in daemon.lines)
            peer.close()
    finally:
        broker.close()


def main():
    program = sys.argv[1]
    tests = (
        o_m2_s18_a_crash_between_the_packets_of_qos_2_loses_nothing,
        o_m2_s18_with_dedupe_no_crash_in_qos_2_repeats_an_event,
        o_m2_s18_over_3_1_1_qos_2_is_1_and_a_crash_loses_nothing,
        o_m3_m2_a_number_of_a_lost_session_is_no_message_seen_before,
        o_m3_a_lost_session_is_told_and_counted,
        o_m3_without_a_session_none_is_missed,
        o_m4_a_slow_disk_ends_no_connection,
        o_m5_of_qos_0_dropped_and_handled_are_sent,
    )
    with tempfile.TemporaryDirectory() as root:
        for test in tests:
            if len(sys.argv) < 3 or sys.argv[2] in test.__name__:
                test(program, pathlib.Path(root) / test.__name__)
                print(f"ok {test.__name__}", flush=True)


if __name__ == "__main__":
    main()

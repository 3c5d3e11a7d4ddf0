# SPDX-License-Identifier: Apache-2.0
"""The handler of `./dev bench kafka --case python`, and the plain loop around it.

    python: kafka_python.py:handle_batch           in the daemon's worker
    kafka_python.py BROKERS TOPIC COUNT STATS      confluent-kafka, nothing else

STATS is the mapped file of handler.c: handled, calls, first_ns, last_ns.
"""
import json
import mmap
import os
import struct
import sys
import time


class Seen:
    def __init__(self, path):
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)
        self.handled = self.calls = self.first = self.hot = 0

    def note(self, count, hot):
        now = time.monotonic_ns()
        self.first = self.first or now
        self.handled += count
        self.calls += 1
        self.hot += hot
        struct.pack_into("<5q", self.map, 0, self.handled, self.calls, self.first, now, self.hot)


def count_hot(readings):
    """The work, the same on both sides."""
    hot = 0
    for reading in readings:
        if reading["temp"] > 30:
            hot += 1
    return hot


seen = Seen(os.environ["STATS"]) if "STATS" in os.environ else None


def handle_batch(events):
    seen.note(len(events), count_hot(event.data for event in events))


def loop(brokers, topic, count, stats):
    from confluent_kafka import Consumer
    own = Seen(stats)
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"bench.plain.{os.getpid()}",
                         "auto.offset.reset": "earliest", "enable.auto.commit": False,
                         "fetch.queue.backoff.ms": 10})  # else it rests a second when its queue was full
    consumer.subscribe([topic])
    committed = time.monotonic()
    while own.handled < count:
        messages = [m for m in consumer.consume(1000, 0.1) if m.error() is None]
        if messages:
            own.note(len(messages), count_hot(json.loads(m.value()) for m in messages))
        if time.monotonic() - committed > 1:  # after its work: at least once
            consumer.commit(asynchronous=True)
            committed = time.monotonic()
    times = os.times()
    print(times.user + times.system, flush=True)
    os._exit(0)  # leaving the group takes seconds and measures nothing


if __name__ == "__main__":
    loop(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])

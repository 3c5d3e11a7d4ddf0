# SPDX-License-Identifier: Apache-2.0
"""A plain confluent-kafka loop in ./dev bench peers: batches, a commit a second.

    loop_peer.py BROKERS GROUP TOPIC COUNT

After COUNT records it commits, prints "FIRST_NS LAST_NS" (CLOCK_MONOTONIC) and waits for SIGTERM."""
import signal
import sys
import time

from confluent_kafka import Consumer


def handle(message):
    """The handler that does nothing."""


def main(brokers, group, topic, count):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group,
                         "auto.offset.reset": "earliest", "enable.auto.commit": False,
                         "fetch.queue.backoff.ms": 10})  # else it rests a second when its queue was full
    consumer.subscribe([topic])
    seen, first, committed = 0, 0, time.monotonic()
    while seen < count:
        messages = consumer.consume(1000, 0.1)
        if messages and first == 0:
            first = time.monotonic_ns()
        for message in messages:
            if message.error():
                sys.exit(str(message.error()))
            handle(message)
        seen += len(messages)
        if time.monotonic() - committed > 1:
            consumer.commit(asynchronous=True)
            committed = time.monotonic()
    last = time.monotonic_ns()
    consumer.commit(asynchronous=False)
    print(first, last, flush=True)
    signal.pause()


main(*sys.argv[1:4], int(sys.argv[4]))

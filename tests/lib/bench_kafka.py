# SPDX-License-Identifier: Apache-2.0
"""A real Kafka broker for a benchmark, its topics, and what bench programs do with them.

    with Kafka(folder) as kafka:
        kafka.topic("readings"); kafka.load("readings", 0, 1000).wait(); kafka.drain("readings", 1000)
"""
import os
import pathlib
import subprocess
import sys
import time

import bench
from bench import BUILD, ROOT, Side, rss_mib
from daemon import free_port

SERVICE = ROOT / "tests" / "services" / "kafka.sh"
PEER = BUILD / "tests" / "bench" / "kafka_peer"
PARTITIONS = 4
LIMIT_S = 900


class Kafka:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder) / "kafka"
        self.port = free_port()
        self.at = f"127.0.0.1:{self.port}"

    def __enter__(self):
        self._service("deps")
        self._service("start", self.folder, self.port)
        return self

    def __exit__(self, *_):
        self._service("stop", self.folder)

    @staticmethod
    def _service(*words):
        subprocess.run([SERVICE, *map(str, words)], check=True, stdout=sys.stderr)

    def topic(self, name, timed=False):
        """timed: its records bear the time at which the broker took them."""
        if not timed:
            self._service("topic", self.port, name, PARTITIONS)
            return
        self._service("tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.at,
                      "--create", "--topic", name, "--partitions", PARTITIONS,
                      "--replication-factor", 1, "--config", "message.timestamp.type=LogAppendTime")

    def load(self, topic, first, count, rate=0, every=2):
        return subprocess.Popen([PEER, "load", self.at, topic, str(PARTITIONS), str(first),
                                 str(count), str(rate), str(every)])

    def fill(self, topic, count, every=2):
        """A new topic with so many records; every so many-th of a partition matches."""
        self.topic(topic)
        begin = time.monotonic()
        if self.load(topic, 0, count, 0, every).wait() != 0:
            raise AssertionError("the records could not be produced")
        bench.say("kafka", f"{count:,} records loaded in {time.monotonic() - begin:.1f} s")

    def _peer(self, verb, topic, *words):
        done = subprocess.run([PEER, verb, self.at, topic, str(PARTITIONS), *map(str, words)],
                              check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
        return list(map(float, done.stdout.split()))

    def start_drain(self, topic, count, late):
        """The bare consumer beside a load; late: a file of Late."""
        return subprocess.Popen([PEER, "drain", self.at, topic, str(PARTITIONS), str(count), late],
                                stdout=subprocess.DEVNULL)

    def drain(self, topic, count):
        """The bare consumer: what it did from its first record to its last."""
        _, seconds, cpu = self._peer("drain", topic, count)
        return Side(count / seconds, cpu * 1e6 / count)

    def pipe(self, topic, count, out):
        """The bare consumer and producer; CPU seconds."""
        sent, cpu = self._peer("pipe", topic, count, out)
        assert sent == count // 2, f"{sent:.0f} of {count // 2} were sent"
        return cpu

    def look(self, out, count):
        """Of a topic with matches: records, different ones, others; the seconds of LogAppendTime."""
        return self._peer("look", out, count)

    def written(self, out, count):
        """Seconds from the first record that the broker took to the last; every second one of
        count must be there, and nothing else."""
        records, different, wrong, seconds = self.look(out, count)
        assert (different, wrong) == (count // 2, 0) and records >= count // 2, \
            f"{out}: {records:.0f} records, {different:.0f} of {count // 2}, {wrong:.0f} wrong"
        return seconds, int(records) - count // 2


def confluent(words):
    """Runs a Python program that has confluent-kafka; the CPU seconds that it prints."""
    site = subprocess.run([ROOT / "tests" / "bench" / "peer_programs" / "install", "python"],
                          check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    done = subprocess.run([sys.executable, *map(str, words)], check=True, stdout=subprocess.PIPE,
                          text=True, timeout=LIMIT_S, env={**os.environ, "PYTHONPATH": site})
    return float(done.stdout)


def wait_settled(daemon, count, limit_s=30):
    """Until the checkpoints stand behind the last record."""
    end = time.monotonic() + limit_s
    while True:
        lows = [row["low"] for row in as_list(daemon.ask("checkpoint", "ls"))]
        if sum(lows) - len(lows) == count:
            return
        assert time.monotonic() < end, f"checkpoints {lows} for {count} records"
        time.sleep(0.05)


def as_list(value):
    if isinstance(value, dict):
        value = value.get("checkpoints", [value])
    return value


def wait_counted(daemon, count, limit_s=LIMIT_S):
    """Until the first function has settled so many; its counters, and the highest resident memory."""
    peak, end = 0.0, time.monotonic() + limit_s
    while True:
        counted = daemon.ask("status")["functions"][0]
        if counted["delivered"] + counted["filtered"] >= count:
            return counted, peak
        assert time.monotonic() < end and daemon.process.poll() is None, counted
        for _ in range(5):  # asking costs a process
            peak = max(peak, rss_mib(daemon.process.pid))
            time.sleep(0.1)

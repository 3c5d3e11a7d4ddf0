# SPDX-License-Identifier: Apache-2.0
"""`./dev bench peers`, Kafka: a handler that does nothing, and a filter that writes to a topic.

A run begins with the start of the process and ends with the last record handled (of the filter:
with the last one in the topic); then it must be committed where its side keeps its progress."""
import os
import pathlib
import pickle
import shutil
import sqlite3
import subprocess
import sys
import time

import bench_peers
from bench import BUILD, HANDLER, HEADRACE, Stats, wait_handled
from bench_kafka import PARTITIONS, Kafka
from bench_peers import LIMIT_S, PROGRAMS, Contest, Peer, PeerError, Run, measure
from daemon import Daemon

WATCH = BUILD / "tests" / "bench" / "kafka_watch"
EVERY = 5  # one of so many matches

TRIGGER = """
triggers:
  readings:
    kafka:
      brokers: "%(at)s"
      topics: readings
      group: %(group)s
      start: earliest
      format: %(format)s
"""
NO_OP = TRIGGER + """
functions:
  count:
    from: readings
    native: %(handler)s
    isolation: none
    batch: { size: 1024 }
    env: { STATS: %(stats)s }
"""
FILTER = TRIGGER + """
functions:
  hot:
    from: readings
    when: data.temp > 30
    kafka: { brokers: "%(at)s", topic: %(out)s }
    batch: { size: 1024 }
"""


class Sides:
    """Each side's way through the topic of a broker."""

    def __init__(self, folder, count):
        self.folder, self.count, self.runs = pathlib.Path(folder), count, 0
        self.kafka = Kafka(folder)
        self.parts = {}  # what the installer gave, or its PeerError

    def install(self, part):
        """None, or why there is none."""
        if part not in self.parts:
            try:
                self.parts[part] = bench_peers.install(part)
            except PeerError as error:
                self.parts[part] = error
        return str(self.parts[part]) if isinstance(self.parts[part], PeerError) else None

    def watch(self, what, topic, count, *more):
        return [WATCH, what, self.kafka.at, topic, str(PARTITIONS), str(count), *more]

    def new_run(self):
        self.runs += 1
        folder = self.folder / f"run{self.runs}"
        folder.mkdir()
        return folder, f"peers.{self.runs}"

    def wait_committed(self, group):
        try:
            subprocess.run(self.watch("committed", "readings", self.count, group), check=True,
                           stdout=subprocess.DEVNULL, timeout=60)
        except subprocess.SubprocessError as error:
            raise PeerError(f"did not commit: {error}") from error

    # ---- (a) a handler that does nothing ----

    def ours_no_op(self):
        folder, group = self.new_run()
        stats = Stats(folder / "stats")
        config = NO_OP % {"at": self.kafka.at, "group": group, "handler": HANDLER,
                          "format": "raw", "stats": stats.path}  # as the peers, who look at nothing
        begin_ns = time.monotonic_ns()
        with Daemon(HEADRACE, folder, config) as daemon:
            wait_handled(daemon, stats, self.count)
            self.wait_committed(group)
            seen = stats.read()
            run = Run(self.count, daemon.process.pid, begin_ns, seen["first"], seen["last"])
        assert seen["handled"] == self.count, seen
        shutil.rmtree(folder)
        return run

    def streams_words(self, folder, group, *out):
        return ["java", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp",
                self.parts["streams"], "StreamsPeer", self.kafka.at, group, "readings", PARTITIONS,
                self.count // PARTITIONS, folder / "state", *out]

    def python_peer(self, name, folder, *words):
        return Peer(name, [sys.executable, PROGRAMS / f"{name}_peer.py", *words], folder,
                    {**os.environ, "PYTHONPATH": self.parts["python"]})

    def no_op(self, peer, folder, wait):
        with peer:
            first, last = peer.wait_done()
            wait()
            run = Run(self.count, peer.pid, peer.begin_ns, first, last)
        shutil.rmtree(folder)
        return run

    def streams_no_op(self):
        folder, group = self.new_run()
        peer = Peer("streams", self.streams_words(folder, group), folder)
        return self.no_op(peer, folder, lambda: self.wait_committed(group))

    def loop_no_op(self):
        folder, group = self.new_run()
        peer = self.python_peer("loop", folder, self.kafka.at, group, "readings", self.count)
        return self.no_op(peer, folder, lambda: self.wait_committed(group))

    def bytewax_no_op(self):
        folder, _ = self.new_run()
        store = folder / "store"
        peer = self.python_peer("bytewax", folder, self.kafka.at, store, "readings", self.count)
        return self.no_op(peer, folder, lambda: self.wait_snapshot(store))

    def wait_snapshot(self, store):
        """Until the newest offsets of Bytewax's own store are those of the ends."""
        end = time.monotonic() + 60
        while (offsets := snapshot(store)) != self.count:
            if time.monotonic() > end:
                raise PeerError(f"its store says {offsets} of {self.count}")
            time.sleep(0.05)

    # ---- (b) filter to a topic ----

    def filtered(self, folder, group, start):
        """A side that start() begins: ends when all matches are in its topic and its offsets are
        committed; then the topic must hold what matches and nothing else."""
        out, wanted = f"out-{self.runs}", self.count // EVERY
        self.kafka.topic(out)
        with subprocess.Popen(self.watch("written", out, wanted), stdout=subprocess.PIPE,
                              text=True) as watch:
            begin_ns = time.monotonic_ns()
            try:
                with start(out) as side:
                    pid = side.process.pid
                    wait_both(watch, side)
                    _, first, last = map(int, watch.stdout.readline().split())
                    self.wait_committed(group)
                    run = Run(self.count, pid, begin_ns, first, last)
            finally:
                watch.kill()
        self.check_out(out, wanted)
        shutil.rmtree(folder)
        return run

    def check_out(self, out, wanted):
        """Every match is there once and nothing else."""
        records, different, wrong, _ = map(int, self.kafka.look(out, self.count))
        if not records == different == wanted or wrong > 0:
            raise PeerError(f"{out} has {records} records, {different} different ones and {wrong} "
                            f"that do not match; there are {wanted} matches")

    def ours_filter(self):
        folder, group = self.new_run()

        def start(out):
            return Daemon(HEADRACE, folder, FILTER % {"at": self.kafka.at, "group": group,
                                                      "format": "auto", "out": out})

        try:
            return self.filtered(folder, group, start)
        except PeerError as error:
            raise AssertionError(f"headrace: {error}") from error

    def streams_filter(self):
        folder, group = self.new_run()
        return self.filtered(folder, group, lambda out: Peer(
            "streams", self.streams_words(folder, group, out), folder))


def snapshot(store):
    """The sum of the newest offsets in a recovery store of Bytewax; 0: none yet."""
    sums = 0
    for file in store.glob("*.sqlite3"):
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as base:
            rows = base.execute("SELECT state_key, ser_change FROM snaps ORDER BY snap_epoch")
            sums += sum(pickle.loads(state) for state in dict(rows).values())
    return sums


def wait_both(watch, side):
    """Until the watch has seen it all; a side that ends before fails."""
    end = time.monotonic() + LIMIT_S
    while watch.poll() is None:
        if side.process.poll() is not None:
            raise PeerError("ended before all was written")
        assert time.monotonic() < end
        time.sleep(0.05)
    assert watch.returncode == 0


def contests(sides, case):
    """Those of a case, with what the installer gives; an error when it gives nothing."""
    if case == "kafka-filter":
        wanted = [("Kafka Streams", 1.2, "streams", sides.streams_filter)]
    else:
        wanted = [("Kafka Streams", 2, "streams", sides.streams_no_op),
                  ("Bytewax", 2, "python", sides.bytewax_no_op),
                  ("confluent-kafka loop", 0, "python", sides.loop_no_op)]
    return [Contest(name, must, way, sides.install(part)) for name, must, part, way in wanted]


def run(folder, cases, pairs, count):
    sides, lines = Sides(folder, count), []
    ours = {"kafka-noop": sides.ours_no_op, "kafka-filter": sides.ours_filter}
    theirs = {case: contests(sides, case) for case in cases}
    with sides.kafka:
        sides.kafka.fill("readings", count, EVERY)
        subprocess.run(sides.watch("committed", "readings", 0, "first"), check=True,
                       stdout=subprocess.DEVNULL)  # the first group of a broker has it make topics
        for case in cases:
            lines += measure(case, pairs, ours[case], theirs[case])
    return lines

# SPDX-License-Identifier: Apache-2.0
"""Bytewax in ./dev bench peers: one worker, a snapshot a second, the sink only counts.

    bytewax_peer.py BROKERS FOLDER TOPIC COUNT

FOLDER gets the recovery store, which is where Bytewax keeps its offsets. After COUNT records it
prints "FIRST_NS LAST_NS" (CLOCK_MONOTONIC) and goes on until SIGTERM."""
import datetime
import pathlib
import sys
import time

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main


class Count(StatelessSinkPartition):
    def __init__(self, wanted):
        self.wanted, self.seen, self.first = wanted, 0, 0

    def write_batch(self, items):
        self.first = self.first or time.monotonic_ns()
        before = self.seen
        self.seen += len(items)
        if before < self.wanted <= self.seen:
            print(self.first, time.monotonic_ns(), flush=True)


class Sink(DynamicSink):
    def __init__(self, wanted):
        self.wanted = wanted

    def build(self, step_id, worker_index, worker_count):
        return Count(self.wanted)


def main(brokers, folder, topic, count):
    folder = pathlib.Path(folder)
    folder.mkdir()
    init_db_dir(folder, 1)
    flow = Dataflow("peer")
    records = op.input("in", flow, KafkaSource(  # its client rests a second when its queue was full, unless told
        [brokers], [topic], add_config={"fetch.queue.backoff.ms": "10"}))
    op.output("out", records, Sink(count))
    cli_main(flow, epoch_interval=datetime.timedelta(seconds=1),
             recovery_config=RecoveryConfig(folder))


main(*sys.argv[1:4], int(sys.argv[4]))

# SPDX-License-Identifier: Apache-2.0
"""The handlers of tests/prove: each writes one line an event (function id key hash) to PROVE_LOG."""
import calendar
import os
import time

import headrace
from prove_digest import canonical, digest

_log = os.open(os.environ["PROVE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _write(ctx, id_, key, hash_):
    os.write(_log, f"{ctx.function} {id_} {key} {hash_}\n".encode())


def _fate(event, fate):
    if fate == "dead":
        raise headrace.Dead("asked for it")
    if fate == "retry" and event.attempt == 1:
        raise ValueError("the first try fails")
    if fate == "slow":  # so that events wait when the daemon dies
        time.sleep(0.05)


def order(event, ctx):
    _fate(event, event.data["fate"])
    _write(ctx, event.id, event.data["key"], digest(event.raw))


def paced_order(event, ctx):
    """A millisecond each, so that the producers are ahead from the first second on."""
    time.sleep(0.001)
    order(event, ctx)


def upload(event, ctx):
    """Its id is the sequencer, which the prover chose; the result goes on to `after`."""
    if int(event.data["sequencer"], 16) % 97 == 0:
        time.sleep(0.05)  # so many wait that they are read from the store again
    _write(ctx, event.data["sequencer"], event.data["key"], digest(canonical(event.data["record"])))
    return {"sequencer": event.data["sequencer"], "key": event.data["key"],
            "hash": digest(canonical(event.data["record"]))}


def after(event, ctx):
    _write(ctx, event.data["sequencer"], event.data["key"], event.data["hash"])


def streamed(event, ctx):
    """From a broker; a millisecond each, so that the producer is always ahead."""
    _fate(event, event.data["fate"])
    time.sleep(0.001)
    _write(ctx, event.data["id"], event.data["key"], digest(event.raw))


def slow_tick(event, ctx):
    """Two at a time, so that one is always under way; those that were missed are caught up with."""
    scheduled = time.strptime(event.data["scheduled"], "%Y-%m-%dT%H:%M:%SZ")
    if time.time() - calendar.timegm(scheduled) < 10:
        time.sleep(1.3)
    tick(event, ctx)


def tick(event, ctx):
    _write(ctx, event.id, "ticks", digest(event.data["scheduled"].encode()))

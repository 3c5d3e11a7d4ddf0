# SPDX-License-Identifier: Apache-2.0
"""Handlers of the proofs with faults: as prove_handler, and one that waits for a gate."""
import os
import time

import headrace
from prove_digest import digest

_log = os.open(os.environ["PROVE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def free(event, ctx):
    os.write(_log, f"{ctx.function} {event.id} - {digest(event.raw)}\n".encode())


def held(event, ctx):
    """Nothing is settled until the file PROVE_LOG.open is there."""
    while not os.path.exists(os.environ["PROVE_LOG"] + ".open"):
        time.sleep(0.05)
    free(event, ctx)


def rotting(event, ctx):
    """Until the gate opens some fail, some are given up, and from place 120 on all wait."""
    is_open = os.path.exists(os.environ["PROVE_LOG"] + ".open")
    if event.data["fate"] == "dead":
        raise headrace.Dead("asked for it")
    if event.data["fate"] == "parked" and not is_open:
        raise ValueError("not before the gate opens")
    if event.data["place"] >= 120:
        held(event, ctx)
    else:
        free(event, ctx)

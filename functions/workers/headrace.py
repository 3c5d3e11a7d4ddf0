# SPDX-License-Identifier: Apache-2.0
"""What a handler may use: three ways out of the retry policy. Nothing must be imported to be called.

    def handle(event, ctx):
        return {"fahrenheit": event.data["celsius"] * 9 / 5 + 32}
"""

__all__ = ["Drop", "Retry", "Dead"]

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _milliseconds(after):
    if after is None:
        return -1
    if isinstance(after, (int, float)):
        return int(after * 1000)
    for unit in ("ms", "s", "m", "h", "d"):
        if after.endswith(unit) and after[: -len(unit)].replace(".", "", 1).isdigit():
            return int(float(after[: -len(unit)]) * _UNITS[unit])
    raise ValueError(f"Retry(after={after!r}): a duration such as '30s' is needed")


class Drop(Exception):
    """The event is of no use: settled as dropped, no dead letter."""


class Dead(Exception):
    """No further try can help: a dead letter at once."""


class Retry(Exception):
    """Try again; with after ("30s", or seconds) not before that, and no attempt is used up."""

    def __init__(self, why="the handler asked for another try", after=None):
        super().__init__(why)
        self.after_ms = _milliseconds(after)

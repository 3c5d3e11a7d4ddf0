# SPDX-License-Identifier: Apache-2.0
"""What the programs of tests/bench share: the daemon's handler that counts, looks into /proc, lines."""
import json
import os
import pathlib
import statistics
import struct
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "release"
HEADRACE = BUILD / "app" / "headrace"
HANDLER = BUILD / "tests" / "bench" / "libbench_handler.so"
PARTITIONS = 64


def say(name, text):
    print(f"bench {name}: {text}", file=sys.stderr, flush=True)


class Stats:
    """The mapped file of bench_handler.c."""

    SIZE = 8 * (4 + 2 * PARTITIONS)

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.write_bytes(bytes(self.SIZE))

    def read(self):
        numbers = struct.unpack(f"<{self.SIZE // 8}q", self.path.read_bytes())
        handled, calls, first, last = numbers[:4]
        return {"handled": handled, "calls": calls, "first": first, "last": last,
                "firsts": numbers[4::2], "lasts": numbers[5::2]}

    def forget_firsts(self):
        with open(self.path, "r+b") as file:
            for i in range(PARTITIONS):
                file.seek(8 * (4 + 2 * i))
                file.write(bytes(8))


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def wait_handled(daemon, stats, count, limit_s=600):
    """Until the handler has seen so many; the highest resident memory meanwhile, MiB."""
    peak, end = 0.0, time.monotonic() + limit_s
    while stats.read()["handled"] < count:
        if time.monotonic() > end or daemon.process.poll() is not None:
            raise AssertionError(f"{stats.read()['handled']} of {count} were handled:\n"
                                 + "\n".join(daemon.lines[-20:]))
        peak = max(peak, rss_mib(daemon.process.pid))
        time.sleep(0.05)  # looks only; the handler keeps the times
    return peak


class Side:
    """One side of a pair: events/s, microseconds of CPU an event, MiB."""

    def __init__(self, rate, cpu_us, rss=0.0, more=None):
        self.rate, self.cpu_us, self.rss, self.more = rate, cpu_us, rss, more or {}


def line(bench, case, baseline, pairs, must, more=None):
    """Prints the JSON line of pairs (ours, base); returns it. ok: the median ratio holds."""
    def median(values):
        return statistics.median(values)

    ratio = median([ours.rate / base.rate for ours, base in pairs])
    result = {"bench": bench, "case": case, "rate": round(median([o.rate for o, _ in pairs])),
              "baseline": baseline, "baseline_rate": round(median([b.rate for _, b in pairs])),
              "ratio": round(ratio, 3), "must": must, "pairs": len(pairs),
              "cpu_us_per_event": round(median([o.cpu_us for o, _ in pairs]), 2),
              "baseline_cpu_us_per_event": round(median([b.cpu_us for _, b in pairs]), 2),
              "rss_mib": round(max(o.rss for o, _ in pairs)), **(more or {})}
    result["ok"] = ratio >= must and result.get("ok", True)
    print(json.dumps(result), flush=True)
    return result


def end(name, lines):
    bad = [one["case"] for one in lines if not one["ok"]]
    if bad:
        say(name, "does not hold: " + "; ".join(bad))
        sys.exit(1)

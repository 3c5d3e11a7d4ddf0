# SPDX-License-Identifier: Apache-2.0
"""What the programs of tests/bench share: the daemon's handler that counts, looks into /proc, lines."""
import json
import mmap
import os
import pathlib
import signal
import statistics
import struct
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "release"
HEADRACE = BUILD / "app" / "headrace"
HANDLER = BUILD / "tests" / "bench" / "libbench_handler.so"
PARTITIONS = 64

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # services and daemons are ended then, too


def say(name, text):
    print(f"bench {name}: {text}", file=sys.stderr, flush=True)


class Stats:
    """The mapped file of handler.c."""

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
            file.seek(8 * 2)
            file.write(bytes(8))
            for i in range(PARTITIONS):
                file.seek(8 * (4 + 2 * i))
                file.write(bytes(8))


class Late:
    """The histogram of latency.h: how late events were."""

    SIZE = 8 * 2048

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.write_bytes(bytes(self.SIZE))

    def forget(self):
        with open(self.path, "r+b") as file:  # others have it mapped
            file.write(bytes(self.SIZE))

    def _counts(self):
        return struct.unpack(f"<{self.SIZE // 8}q", self.path.read_bytes())

    def count(self):
        return sum(self._counts())

    def quantiles_ms(self):
        """p50_ms, p99_ms, p999_ms and max_ms of all so far, within 3 %."""
        counts = self._counts()
        total = sum(counts)
        assert total > 0, "no event said when it was due"
        names = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
        wanted, found, passed = list(names), {}, 0
        for bucket, count in enumerate(counts):
            passed += count
            while wanted and passed >= names[wanted[0]] * total:
                shift = max(0, bucket // 32 - 1)
                low = bucket if bucket < 32 else (32 + bucket % 32) << shift
                found[wanted.pop(0)] = round((low + (1 << shift) / 2) / 1e6, 3)
        return found


def warm_memory(mib=2048):
    """Touches memory and gives it back. A virtual machine returns what it does not use to its host and
    fetches a page again when something is written there: 11 us where it is 1.3. Who writes files pays
    for that and who only answers does not: 66,000 webhook events a second where it is 91,000."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            mib = min(mib, int(line.split()[1]) // 1024 // 4)
    child = os.fork()  # what a process once had counts as its programs' too (ru_maxrss)
    if child == 0:
        try:
            pages = mmap.mmap(-1, mib << 20)
            for at in range(0, mib << 20, mmap.PAGESIZE):
                pages[at] = 1
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def settle():
    """Before something is measured. What ran before left on its way to the disk is written half a
    minute later, beside it: 66,000 webhook events a second where it is 85,000."""
    os.sync()
    warm_memory()


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid):
    """The process and all that it and its children started."""
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def cpu_ns(pid):
    """Of the threads that it has now; finer than the ticks of cpu_s."""
    return sum(int(task.read_text().split()[0])
               for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))


def rss_mib(pid, field="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
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


def tell(result):
    """Prints the JSON line; returns it. of_must: how often what must hold is reached, for the gate."""
    print(json.dumps(result), flush=True)
    return result


def stands(name, rate, reference):
    """A baseline 30 % off what it was once measured at says more about the machine than about us."""
    if not 0.7 <= rate / reference <= 1.3:
        say(name, f"the baseline reached {rate:,.0f}/s, where {reference:,}/s was measured on two "
                  "quiet cores: another machine, or other work beside this")


def line(bench, case, baseline, pairs, must, more=None, reference=0):
    """Tells of pairs (ours, base). ok: the median ratio holds. reference: what the baseline reached
    on another day."""
    def median(values):
        return statistics.median(values)

    ratio = median([ours.rate / base.rate for ours, base in pairs])
    result = {"bench": bench, "case": case, "rate": round(median([o.rate for o, _ in pairs])),
              "baseline": baseline, "baseline_rate": round(median([b.rate for _, b in pairs])),
              "ratio": round(ratio, 3), "must": must, "pairs": len(pairs),
              "cpu_us_per_event": round(median([o.cpu_us for o, _ in pairs]), 2),
              "baseline_cpu_us_per_event": round(median([b.cpu_us for _, b in pairs]), 2),
              "rss_mib": round(max(o.rss for o, _ in pairs)),
              "of_must": round(ratio / must, 3) if must else None, **(more or {})}
    result["ok"] = ratio >= must and result.get("ok", True)
    if reference:
        result["reference_rate"] = reference
        stands(bench, result["baseline_rate"], reference)
    return tell(result)


def end(name, lines):
    bad = [one["case"] for one in lines if not one["ok"]]
    if bad:
        say(name, "does not hold: " + "; ".join(bad))
        sys.exit(1)

# SPDX-License-Identifier: Apache-2.0
"""What the cases of `./dev bench peers` share: peers under way, what a run came to, alternating
pairs, the JSON lines."""
import itertools
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bench  # noqa: E402
from bench import cpu_s  # noqa: E402

PROGRAMS = bench.ROOT / "tests" / "bench" / "peer_programs"
LIMIT_S = 900


def say(text):
    bench.say("peers", text)


class PeerError(Exception):
    """The peer cannot be had or did not do what it was to do: a line of the output, no figure."""


def install(name):
    """What tests/bench/peer_programs/install prints for it."""
    done = subprocess.run([PROGRAMS / "install", name], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PeerError(f"not installed: {last}")
    return done.stdout.strip()


def peak_mib(pid):
    """The most that was ever resident."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"{pid} has ended")


class Peer:
    """A process that is not ours: started, listened to, ended by its own pid."""

    def __init__(self, name, words, folder, environment=None):
        self.name = name
        self.log = pathlib.Path(folder) / f"{name}.log"
        self.begin_ns = time.monotonic_ns()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([str(word) for word in words], env=environment,
                                            stdout=subprocess.PIPE, stderr=log, text=True,
                                            cwd=folder)
        self.pid = self.process.pid
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in itertools.chain(self.process.stdout, [None]):
            with self.changed:
                self.lines.append(line if line is None else line.rstrip("\n"))
                self.changed.notify_all()

    def wait_line(self, pattern, limit_s=LIMIT_S):
        """The match of the first line of stdout that is all of the pattern."""

        def found():
            for line in self.lines:
                match = line is None or re.fullmatch(pattern, line)
                if match:
                    return match
            return None

        with self.changed:
            match = self.changed.wait_for(found, limit_s)
        if match is None or match is True:
            self.fail("said nothing in time" if match is None else "ended")
        return match

    def wait_done(self):
        """When it had the first and the last, as it says itself."""
        match = self.wait_line(r"(\d+) (\d+)")
        return int(match[1]), int(match[2])

    def fail(self, what):
        text = self.log.read_text(errors="replace").strip().splitlines()
        said = [line for line in self.lines if line is not None]
        raise PeerError(f"{self.name} {what}: " + " | ".join((said + text)[-5:]))

    def is_alive(self):
        return self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self.reader.join(30)


class Run:
    """One side of a pair. rate: events/s from the start of the process to the last one, flow: from
    the first one to the last; cpu: seconds of a million; rss: MiB at most."""

    def __init__(self, count, pid, begin_ns, first_ns, last_ns, cpu_before=0.0):
        self.rate = count * 1e9 / (last_ns - begin_ns)
        self.flow = count * 1e9 / max(last_ns - first_ns, 1)
        self.cpu = (cpu_s(pid) - cpu_before) * 1e6 / count
        self.rss = peak_mib(pid)

    def __str__(self):
        return (f"{self.rate:,.0f}/s ({self.flow:,.0f}/s once it flows), {self.cpu:.2f} CPU s a "
                f"million, {self.rss:.0f} MiB")


class Contest:
    """A peer in a case: how it is run, what must hold; its pairs (ours, theirs)."""

    def __init__(self, name, must, run, error=None):
        self.name, self.must, self.run, self.error, self.pairs = name, must, run, error, []

    def line(self, case):
        head = {"bench": "peers", "case": case, "peer": self.name}
        if self.error is not None:
            return {**head, "error": self.error, "ok": False}

        def median(ours, digits, of):
            value = statistics.median(of(pair[0 if ours else 1]) for pair in self.pairs)
            return round(value, digits) if digits else round(value)

        def ratio(of):
            return round(statistics.median(of(a) / of(b) for a, b in self.pairs), 3)

        cpu = [median(ours, 2, lambda run: run.cpu) for ours in (True, False)]
        rss = [median(ours, 1, lambda run: run.rss) for ours in (True, False)]
        rates = ratio(lambda run: run.rate)
        result = {**head, "rate": median(True, 0, lambda run: run.rate),
                  "peer_rate": median(False, 0, lambda run: run.rate), "ratio": rates,
                  "must": self.must,
                  "of_must": round(rates / self.must, 3) if self.must else None,
                  "flow_rate": median(True, 0, lambda run: run.flow),
                  "peer_flow_rate": median(False, 0, lambda run: run.flow),
                  "flow_ratio": ratio(lambda run: run.flow), "cpu_s_per_million": cpu[0],
                  "peer_cpu_s_per_million": cpu[1], "rss_mib": rss[0], "peer_rss_mib": rss[1],
                  "pairs": len(self.pairs), "cpu_below": cpu[0] < cpu[1],
                  "rss_below": rss[0] < rss[1]}
        result["ok"] = rates >= self.must and result["cpu_below"] and result["rss_below"]
        return result


def measure(case, pairs, ours, contests):
    """Runs ours and each peer in turn, so many times; prints and returns the lines."""
    for number in range(1, pairs + 1):
        left = [one for one in contests if one.error is None]
        if not left:
            break
        own = ours()
        say(f"{case} {number}: headrace {own}")
        for one in left:
            try:
                theirs = one.run()
            except PeerError as error:
                one.error = str(error)
                say(f"{case} {number}: {one.name}: {error}")
                continue
            one.pairs.append((own, theirs))
            say(f"{case} {number}: {one.name} {theirs}")
    return [bench.tell(one.line(case)) for one in contests]

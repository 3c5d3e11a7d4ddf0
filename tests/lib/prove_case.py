# SPDX-License-Identifier: Apache-2.0
"""One case of a fault sweep: lives of the daemon with a fault in each, one without, the judgement.

A case has a folder and inputs of its own, so cases run beside each other in processes. What it finds
comes back as a dictionary: acked, wrong (a list), and of each life with a fault name, outcome, code,
line (its last words when it ended), fault (what met it), wrong.
"""
import collections
import concurrent.futures
import contextlib
import pathlib
import pickle
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import prove_faults
from prove_faults import Lines, kill
from daemon import Daemon
from prove_judge import dead_of, judge
from prove_inputs import Orders, Ticks

LOAD_S = 2.0     # so long the fault may take to be met under load
AFTER_S = 0.15   # and the load goes on so long behind it
LIMIT_S = 20     # a life that neither settles all nor ends within this hangs
WORDS = re.compile(r"^headrace: |^error: |^headrace-|^\S+ ERROR |error while loading shared libraries")


class Shop(Orders):
    count = 2
    backlog = 60


class Shell(Lines):
    backlog = 12


class Clock(Ticks):
    """A tick a second; owed from the first that came, or since a start that was durable."""

    functions = Ticks.functions[:1]
    unordered = frozenset()

    def waiting(self, handled):
        return super().waiting(handled) if self.ended is not None else 0

    def start(self, daemon, stopping):
        self.began = self.began or int(time.time()) - LIMIT_S

    def owe(self, handled, since):
        """since: when its start was durable at the latest."""
        came = [self._second(id_) - 1 for id_, _, _ in handled.firsts[self.functions[0].name]]
        first = self.began
        self.close(handled, min([since, *came]), time.time())
        self.began = first  # one from before that comes late is no phantom


class Beginning:
    """A state that was killed under load, to begin cases with."""

    def __init__(self, run):
        self.folder = run.folder / "used"
        self.folder.mkdir()
        inputs = inputs_of(run.args.seed)
        handled = kill.Handled(self.folder / "handled")
        daemon = Daemon(run.program, self.folder, config_of(inputs[:2], handled.path))
        for one in inputs[:2]:
            one.watch(handled)
        stopping, over = threading.Event(), threading.Event()
        daemon.start()
        threading.Thread(target=handled.follow, args=(over,), daemon=True).start()
        for one in inputs[:2]:
            one.start(daemon, stopping)
        time.sleep(0.8)
        daemon.kill9()
        handled.mark("a kill")
        stopping.set()
        prove_faults.abandoned.add(daemon.port)
        for one in inputs[:2]:
            one.join()
        prove_faults.abandoned.discard(daemon.port)
        over.set()
        self.known = pickle.dumps([(one.sent, one.acked) for one in inputs[:2]])

    def lay(self, folder, inputs):
        shutil.copytree(self.folder / "state", folder / "state", ignore=lambda _, names: [
            name for name in names if name.endswith(".sock")])
        shutil.copy(self.folder / "handled", folder / "handled")
        for one, (sent, acked) in zip(inputs, pickle.loads(self.known)):
            one.sent, one.acked = sent, acked


def inputs_of(seed):
    return [Shop(seed), Shell(seed), Clock()]


def config_of(inputs, log):
    shown = [one for one in inputs if not isinstance(one, Shell)]
    text = kill.config_of(shown, log)
    text = text.replace("settings:\n", "settings:\n  ballast: 1MiB\n", 1)
    text = text.replace("workers: 2", "workers: 1\n    when: data.key REGEXP '^k' AND source <> ''")
    # the shell command stands last, so that text can follow it
    text = text.replace("functions:\n", f"  lines:\n{Shell.trigger}functions:\n", 1)
    return text + Shell.function_text(log).replace("    order: none\n",
                                                   "    order: none\n    when: data.id <> 'none'\n")


class Case:
    """lives: pairs of a name and a function that gives the words before the program, handed the file
    that the fault writes when it happens."""

    def __init__(self, run, name, lives, beginning=None, record_s=None):
        self.name = name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-".replace("/", "_"),
                                                    dir=run.folder))
        self.inputs = inputs_of(f"{run.args.seed}/{name}")
        if beginning is not None:
            beginning.lay(self.folder, self.inputs)
        self.handled = kill.Handled(self.folder / "handled")
        for one in self.inputs:
            one.watch(self.handled)
        self.daemon = Daemon(run.program, self.folder, config_of(self.inputs, self.handled.path))
        self.lives = lives
        self.record_s = record_s  # only look for so long, there is no fault
        self.met = None
        self.stopping, self.over = threading.Event(), threading.Event()
        self.loads = 0
        self.ran = None  # when it was seen to run, and how many were acknowledged before that life
        self.before = 0
        self.wrong = []

    # -- the load

    def load(self):
        self.stopping.clear()
        self.loads += 1
        for one in self.inputs[:2]:
            for number in range(one.count):
                one.go(one._produce, self.daemon, self.stopping, 100 * self.loads + number)
        self.inputs[2].start(self.daemon, self.stopping)

    def acked(self):
        return sum(len(one.acked) for one in self.inputs[:2])

    def clock_began(self):
        """When the clock's start was durable: it is committed before anything is acknowledged."""
        return self.ran[0] if self.acked() > self.ran[1] else time.time()

    def is_loaded(self):
        return any(thread.is_alive() for one in self.inputs for thread in one.threads)

    def abandon(self):
        self.stopping.set()
        prove_faults.abandoned.add(self.daemon.port)
        for one in self.inputs:
            one.join()
            one.threads.clear()
        prove_faults.abandoned.discard(self.daemon.port)

    # -- waiting

    def ended(self):
        return self.daemon.process.poll() is not None

    def until(self, holds, limit):
        """True: it holds; False: it did not, or the daemon ended."""
        end = time.monotonic() + limit
        while not holds():
            if self.ended() or time.monotonic() > end:
                return holds()
            time.sleep(0.01)
        return True

    def runs(self):
        """Waits until it runs; False: it does not, or ended."""
        if not self.until(self.says_running, LIMIT_S):
            return False
        if self.ran is None:
            self.ran = (time.time(), self.before)
        return True

    def says_running(self):
        if self.fault().startswith("write log"):  # it may be the line that failed
            with socket.socket() as caller:
                return caller.connect_ex(("127.0.0.1", self.daemon.port)) == 0
        return any(" running; state in" in line for line in self.daemon.lines[self.begin:])

    def fault(self):
        try:
            return self.met.read_text().strip().replace("\n", "; ")
        except FileNotFoundError:
            return ""

    def settled(self):
        self.handled.read()
        return not self.is_loaded() and all(one.waiting(self.handled) == 0 for one in self.inputs)

    # -- the lives

    def launch(self, prefix):
        self.begin = len(self.daemon.lines)
        self.before = self.acked()
        if self.ran is not None and self.ran[1] == self.before:
            self.ran = None  # a life that acknowledged nothing need not have made its clock durable
        self.daemon.prefix = prefix
        self.daemon.launch()

    def faulted_life(self):
        """What became of it: recovered, ended, or hangs."""
        if not self.runs():
            return "ended" if self.ended() else "hangs"
        self.load()
        if self.record_s is not None:
            self.until(lambda: False, self.record_s)
        elif self.until(self.fault, LOAD_S):
            self.handled.mark("a fault")  # what it interrupted comes again before this life ends
        if not self.ended():
            time.sleep(AFTER_S)
        self.stopping.set()
        if self.until(self.settled, LIMIT_S):
            return "recovered" if self.fault() else "not met"
        return "ended" if self.ended() else "hangs"

    def last_words(self, life, process):
        """Of a life that ended by itself: one line, and a status that is no signal's."""
        code = life["code"] = process.wait()
        self.daemon.reader.join(LIMIT_S)
        words = [line for line in self.daemon.lines[self.begin:] if WORDS.search(line)]
        life["line"] = " | ".join(words)
        if code < 0:
            life["wrong"].append(f"ended by {signal.Signals(-code).name}")
        elif code == 0:
            life["wrong"].append("ended with 0")
        if len(words) != 1:
            life["wrong"].append(f"{len(words)} lines say why it ended")

    def end_life(self, life, by_kill):
        if by_kill:
            self.daemon.kill9()
            self.handled.mark("a kill")
            return
        process = self.daemon.process
        try:
            self.daemon.stop()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            if process.poll() is not None:  # met while it stopped
                life["outcome"] = "ended"
                self.last_words(life, process)
            else:
                life["wrong"].append(f"SIGTERM: {str(error).splitlines()[0]}")
            if self.daemon.process is not None and not self.ended():
                self.daemon.kill9()

    def clean_life(self):
        """All comes to rest; the counts."""
        self.launch(())
        if not self.runs():
            self.wrong.append(f"does not start again: {self.daemon.lines[-2:]}")
            return {}
        if self.loads == 0:  # it never came so far
            self.load()
            time.sleep(AFTER_S)
        self.stopping.set()
        self.inputs[2].owe(self.handled, self.clock_began())
        if not self.until(self.settled, LIMIT_S):
            self.wrong.append("not all comes to rest in the life without a fault")
        status = self.status()
        letters = self.daemon.dead_letters()
        self.daemon.kill9()
        self.handled.read()
        found, figures = judge(self.inputs, self.handled, [status], dead_of(self.inputs, letters),
                               lambda text: None)
        for answer in set(prove_faults.answers) - {202, 503, "refused", "cut"}:
            self.wrong.append(f"the answer was '{answer}'")
        self.wrong += [f"{kind} {count}" for kind, count in found.items()]
        return {key: figures[key] for key in ("lost", "acked", "duplicates", "allowed")}

    def status(self):
        """When nothing is pending any more: what a handler wrote is settled a moment later."""
        ending = {f.name for one in self.inputs[:2] for f in one.functions}
        end = time.monotonic() + LIMIT_S
        while True:
            status = self.daemon.ask("status")
            left = [f["name"] for f in status["functions"] if f["pending"] > 0 and
                    f["name"] in ending]
            if not left or time.monotonic() > end:
                return status
            time.sleep(0.02)

    def one_life(self, number, by_kill):
        if self.is_loaded():  # only the last one's are sent again in the life without a fault
            self.abandon()
        name, prefix = self.lives[number]
        self.met = self.folder / f"met-{number}"
        life = {"name": name, "code": None, "line": "", "wrong": []}
        self.launch(prefix(self.met))
        life["outcome"] = self.faulted_life()
        self.handled.mark("a fault")
        if life["outcome"] == "ended":
            self.last_words(life, self.daemon.process)
        elif life["outcome"] == "hangs":
            life["wrong"].append(f"neither settles nor ends within {LIMIT_S} s")
            self.daemon.kill9()
        else:
            self.end_life(life, by_kill)
        life["fault"] = self.fault()
        if self.record_s is not None:
            life["calls"] = self.met.read_text().splitlines()
        return life

    def run(self, by_kill):
        threading.Thread(target=self.handled.follow, args=(self.over,), daemon=True).start()
        lives, counts = [], {}
        prove_faults.answers.clear()
        try:
            for number in range(len(self.lives)):
                lives.append(self.one_life(number, by_kill))
            counts = self.clean_life()
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            self.wrong.append(str(error)[:500])
        finally:
            self.over.set()
            with contextlib.suppress(OSError, AttributeError):
                self.daemon.kill9()
            self.abandon()
        if self.wrong or any(life["wrong"] for life in lives):
            (self.folder / "daemon.log").write_text("\n".join(self.daemon.lines))
        else:
            shutil.rmtree(self.folder)
        return {"lives": lives, "wrong": self.wrong, "folder": str(self.folder), **counts}


work = {}  # what the processes of the pool are forked with


def _in_pool(number):
    random.seed()  # or the processes choose the same ports
    result = work["one"](number)
    if "Address already in use" in str(result):  # by somebody else on this machine
        result = work["one"](number)
    return result


def _begin_job():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep ends them
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def sweep(run, count, one):
    """one(number) for each, in an order by chance and in processes beside each other; results as they
    come, until the time of --for is over, SIGINT or SIGTERM: then it is not whole."""
    work["one"] = one
    came, stopped = 0, []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append("interrupted"))
    order = run.chance.sample(range(count), count)
    end = time.monotonic() + (run.args.seconds or 1 << 30)
    with concurrent.futures.ProcessPoolExecutor(
            run.args.jobs, initializer=_begin_job) as pool:
        for done in concurrent.futures.as_completed([pool.submit(_in_pool, number)
                                                     for number in order]):
            yield done.result()
            came += 1
            if time.monotonic() > end:
                stopped.append("the time is over")
            if stopped:
                pool.shutdown(cancel_futures=True)
                break
    run.whole = came == count
    if not run.whole:
        run.say(f"not whole, {came} of {count}: {stopped[:1]}")


def arguments(parser):
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--for", type=int, dest="seconds", help="begin nothing after so many")


class Tally:
    """What the cases of a sweep came to."""

    def __init__(self, run, allowed=lambda life: False):
        self.run = run
        self.allowed = allowed  # a life whose end is counted and no failure
        self.outcomes, self.total = collections.Counter(), collections.Counter(lost=0)
        self.lines = collections.defaultdict(list)
        self.excused = collections.Counter()

    def add(self, result):
        self.total.update({key: result.get(key, 0)
                           for key in ("acked", "duplicates", "allowed", "lost")})
        if result["wrong"]:
            names = ", ".join(life["name"] for life in result["lives"])
            self.run.trouble(f"{names}: {'; '.join(result['wrong'])} [{result['folder']}]")
        for life in result["lives"]:
            self.outcomes[life["outcome"]] += 1
            if life["line"]:
                self.lines[self.shape(life["line"])].append(life["name"])
            if not life["wrong"]:
                continue
            if self.allowed(life):
                self.excused[f"{life['fault']}: {life['wrong'][0]}"] += 1
                continue
            self.run.trouble(f"{life['name']} ({life['fault']}): {'; '.join(life['wrong'])}: "
                             f"{life['line'][:300]} [{result['folder']}]")

    @staticmethod
    def shape(line):
        """A line without what is of its case."""
        line = re.sub(r"^\S+Z ", "", line)
        line = re.sub(r"/\S*/(prove-\w+-\w+/[^/' ]+)", "DIR", line)
        return re.sub(r"\d+", "N", line)

    def say(self):
        for line, names in sorted(self.lines.items(), key=lambda pair: -len(pair[1])):
            self.run.say(f"{len(names)} x {line}  [{names[0]}]")

    def result(self):
        return {**self.total, "outcomes": dict(self.outcomes), "lines": len(self.lines)}

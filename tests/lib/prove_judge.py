# SPDX-License-Identifier: Apache-2.0
"""The judge of tests/prove: what the handlers wrote and what `status` counts, against what the
producers know. Everything that it finds is wrong; a proof that finds nothing holds.
"""
import collections
import math
import re
import sys
import threading
import time

CHECKPOINT_S = 0.010  # how often a checkpoint goes that nothing else takes along (app/engine_build.c)
COMMIT_S = 0.1        # for a commit, when no producer has measured one
AT_ONCE = 8           # no more in its best second: they may have come at the same moment
SHARE = 0.95          # of the posts are answered within what counts as the time of a commit
EXAMPLES = 5
KINDS = ("lost", "phantoms", "altered", "out_of_order", "dead_unasked", "drift", "pending",
         "miscounted", "uncounted", "too_often", "producers")


class Handled:
    """What the handlers wrote, to one file or to one for each daemon: (function, id) -> its first
    hash; firsts in order. A line that begins with # is an interruption."""

    def __init__(self, *paths):
        self.path = paths[0]
        self.files = []
        for path in paths:
            path.touch()
            self.files.append([path.open("rb"), b""])
        self.lines_of = [0] * len(paths)
        self.hashes = {}
        self.firsts = collections.defaultdict(list)  # function -> [(id, key, hash)]
        self.altered = []  # the same id again, with another payload
        self.lives = [collections.Counter()]  # between interruptions: function -> lines
        self.repeats = collections.Counter()  # function -> lines of what was handled before
        self.most_repeats = collections.Counter()  # the same between two interruptions
        self.peak = collections.Counter()  # function -> most lines of one daemon within a second
        self.lock = threading.Lock()
        self._again = collections.Counter()
        self._second = collections.Counter()

    @property
    def lines(self):
        return sum(self.lines_of)

    @property
    def interruptions(self):
        return len(self.lives) - 1

    def close(self):
        for file, _ in self.files:
            file.close()

    def count(self, function):
        """How many different events it handled."""
        return len(self.firsts[function])

    def has(self, function, id_):
        return (function, id_) in self.hashes

    def follow(self, stopping):
        while not stopping.is_set():
            self.read()
            time.sleep(0.02)

    def read(self):
        with self.lock:
            for number, file in enumerate(self.files):
                *lines, file[1] = (file[1] + file[0].read()).split(b"\n")
                for line in lines:
                    self._take(number, line.decode())

    def _take(self, number, line):
        if line.startswith("#"):
            self.lives.append(collections.Counter())
            self._again.clear()
            return
        function, id_, key, digest = line.split(" ")
        self.lines_of[number] += 1
        self.lives[-1][function] += 1
        known = self.hashes.get((function, id_))
        if known is None:
            self.hashes[function, id_] = digest
            self.firsts[function].append((id_, key, digest))
        else:
            self.repeats[function] += 1
            self._again[function] += 1
            self.most_repeats[function] = max(self.most_repeats[function], self._again[function])
            if known != digest:
                self.altered.append((function, id_))
        self._pace(number, function)

    def _pace(self, number, function):
        second, count = int(time.monotonic()), self._second
        if count.get("now") != second:
            count.clear()
            count["now"] = second
        count[number, function] += 1
        self.peak[function] = max(self.peak[function], count[number, function])

    def mark(self, text):
        """What runs is interrupted here: by a kill, a fault, a sleep."""
        with self.path.open("ab", buffering=0) as file:
            file.write(f"# {text}\n".encode())


def commit_s(inputs):
    """How long a commit takes, the wait for the one before it too: a post waits for as much."""
    took = sum((one.took_ms for one in inputs), collections.Counter())
    left = took.total() * SHARE
    for ms in sorted(took):
        left -= took[ms]
        if left <= 0:
            return (ms + 1) / 1000
    return COMMIT_S


def repeats_allowed(handled, one, function, slots, wait_s):
    """S14: at each interruption what ran, what was done and is not durable yet, and what the source
    has not been told. Done and not durable is what is settled while a checkpoint waits for its
    interval or for the one before it, and while it is committed itself, at the least what each slot
    answered last: a batch is done at once. Nor can more come again than was handled, unless somebody
    else handled it meanwhile."""
    size = re.search(r"batch: \{ size: ([0-9]+)", function.more)
    running = max(slots, 1) * (int(size[1]) if size else 1)
    open_s = max(CHECKPOINT_S, wait_s) + wait_s + one.offset_s
    peak = handled.peak[function.name]
    most = running + (peak if peak <= AT_ONCE else
                      max(math.ceil(peak * open_s), min(peak, running)))
    return sum((most if one.offset_s > 0 else min(life[function.name], most)) + one.window
               for life in handled.lives[:-1])


class _Found:
    def __init__(self):
        self.count = collections.Counter()
        self.examples = collections.defaultdict(list)

    def note(self, kind, what):
        self.count[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(what)


def _judge_events(found, one, handled, dead):
    """What was acknowledged has come, and nothing else, as it was, in order."""
    for function in one.functions:
        for id_ in one.acked_ids():
            if not handled.has(function.name, id_) and (function.name, id_) not in dead:
                found.note("lost", (function.name, id_))
        last = {}
        for id_, key, digest in handled.firsts[function.name]:
            known = one.sent_hash(id_)
            if known is None:
                found.note("phantoms", (function.name, id_))
            elif known != digest:
                found.note("altered", (function.name, id_))
            place = one.place(id_)
            if place is not None and function.name not in one.unordered:
                if place < last.get(key, -1):
                    found.note("out_of_order", (function.name, id_, key, last[key]))
                last[key] = max(place, last.get(key, -1))


def _judge_dead(found, owner, dead):
    for function, id_ in dead:
        if function not in owner or owner[function].sent_hash(id_) is None:
            found.note("phantoms", ("dead", function, id_))
        elif not owner[function].may_die(id_):
            found.note("dead_unasked", (function, id_))


def _add_up(statuses, kind):
    """Name -> the sums of its numbers, over the daemons."""
    sums = {}
    for status in statuses:
        for each in status[kind]:
            sums.setdefault(each["name"], collections.Counter()).update(
                {key: value for key, value in each.items() if isinstance(value, int)})
    return sums


def _judge_counts(found, one, handled, triggers, functions):
    """The daemon's own count is that of the producers."""
    least, most = one.owed(handled)
    trigger = triggers.get(one.name)
    if trigger is None:
        found.note("uncounted", (one.name, "no such trigger in status"))
    else:
        if not one.is_pull and not least <= trigger["received"] <= most:
            found.note("miscounted", (one.name, f"received {trigger['received']}, not from {least} "
                                      f"to {most}"))
        if trigger["malformed"] != 0:
            found.note("miscounted", (one.name, f"malformed {trigger['malformed']}"))
    for function in one.functions:
        counts = functions.get(function.name)
        if counts is None:
            found.note("uncounted", (function.name, "no such function in status"))
            continue
        made = counts["deliveries"] - counts["replays"]
        if not least <= made <= most:
            found.note("miscounted", (function.name, f"{made} deliveries, not from {least} to "
                                      f"{most}"))
        if counts["drift"] != 0:
            found.note("drift", (function.name, counts["drift"]))
        if counts["pending"] != 0 and not one.endless:
            found.note("pending", (function.name, counts["pending"]))


def dead_of(inputs, letters):
    """The pairs of function and id, by the prover's id, of the letters of functions of these inputs."""
    owner = {function.name: one for one in inputs for function in one.functions}
    return {(letter["function"], owner[letter["function"]].own_id(letter["id"]))
            for letter in letters if letter["function"] in owner}


def judge(inputs, handled, statuses, dead, say=lambda text: print(text, file=sys.stderr)):
    """kind -> how often, empty when all holds; and the figures of the run. statuses: what `status`
    of each daemon said in the end; dead: the pairs (function, id) of the dead letters."""
    found = _Found()
    triggers, functions = _add_up(statuses, "triggers"), _add_up(statuses, "functions")
    wait_s = commit_s(inputs)
    allowed = {}
    for one in inputs:
        for failure in one.failures:
            found.note("producers", (one.name, failure))
        _judge_events(found, one, handled, dead)
        _judge_counts(found, one, handled, triggers, functions)
        for function in one.functions:
            slots = functions.get(function.name, {}).get("slots", 0)
            may = allowed[function.name] = repeats_allowed(handled, one, function, slots, wait_s)
            if handled.repeats[function.name] > may:
                found.note("too_often", (function.name,
                                         f"{handled.repeats[function.name]} repeats, {may} allowed"))
    owner = {function.name: one for one in inputs for function in one.functions}
    _judge_dead(found, owner, dead)
    for function, id_ in handled.altered:
        found.note("altered", (function, id_))
    for function, _ in handled.hashes:
        if function not in owner:
            found.note("phantoms", (function, "no such function"))
    for kind, what in found.examples.items():
        say(f"{kind} {found.count[kind]}: {', '.join(map(str, what))}")
    if handled.interruptions:
        say(f"{handled.interruptions} interruptions, {wait_s * 1000:.0f} ms a commit; repeats of "
            "allowed, most at once: " + ", ".join(
                f"{name} {handled.repeats[name]} of {may}, {handled.most_repeats[name]}"
                for name, may in allowed.items()))
    figures = {"acked": sum(len(one.acked) for one in inputs), "handled": len(handled.hashes),
               "dead": len(dead), "duplicates": handled.repeats.total(),
               "allowed": sum(allowed.values()), "interruptions": handled.interruptions,
               **{kind: found.count[kind] for kind in KINDS}}
    return found.count, figures

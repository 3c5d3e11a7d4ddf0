# SPDX-License-Identifier: Apache-2.0
"""What the proofs of tests/prove beside kill share: its producers, its records and its judge."""
import argparse
import collections
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import random
import shutil
import socket
import sys
import tempfile
import threading

import prove_inputs
from prove_inputs import ANSWER_S, Function, Posted, Sent
from prove_digest import digest
from prove_judge import dead_of, judge

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FAULT_HANDLER = ROOT / "tests" / "lib" / "prove_fault_handler.py"

sys.dont_write_bytecode = True
_loader = importlib.machinery.SourceFileLoader("prove_kill", str(ROOT / "tests/prove/kill"))
kill = importlib.util.module_from_spec(importlib.util.spec_from_loader("prove_kill", _loader))
_loader.exec_module(kill)

abandoned = set()  # ports whose producers end, whatever is not acknowledged
answers = collections.Counter()  # what the producers were told: a status, "refused" or "cut"


class Counted(prove_inputs.Connection):
    """Tells a closed port from a connection that ended."""

    def post(self, path, body):
        if self.port in abandoned:
            raise SystemExit
        if self.socket is None:
            try:
                self.socket = socket.create_connection(("127.0.0.1", self.port), ANSWER_S)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                answers["refused"] += 1
                return 0
        status = super().post(path, body)
        answers[status if status != 0 else "cut"] += 1
        return status


prove_inputs.Connection = Counted


class Lines(Posted):
    """A webhook whose function is a shell command: a process an event."""

    name = "lines"
    path = "/hooks/lines"
    backlog = 40
    trigger = """    webhook: { path: /hooks/lines, dialect: json, insecure: true, id: data.id }
"""
    functions = [Function("shell-lines", "lines", None, "")]
    unordered = frozenset({"shell-lines"})

    def make(self, chance, number, place):
        id_ = f"line{number}-{place}"
        body = json.dumps({"id": id_, "pad": "x" * chance.randrange(300)}).encode()
        self.sent[id_] = Sent(place, digest(body), "ok")
        return [id_], body

    @staticmethod
    def function_text(log):
        return ("  shell-lines:\n    from: lines\n    order: none\n    concurrency: 4\n"
                "    start: earliest\n    retry: { attempts: 8, backoff: 20ms..200ms }\n"
                "    shell: |\n"
                "      set -e\n"
                "      hash=$(sha256sum | cut -c1-16)\n"
                f"      echo \"shell-lines $CE_ID - $hash\" >> {log}\n")


class Run:
    """One proof: its arguments, folder, load, and the JSON line at its end."""

    def __init__(self, name, add=lambda parser: None):
        parser = argparse.ArgumentParser(description=f"proof {name}")
        parser.add_argument("--quick", action="store_true")
        parser.add_argument("--seed", type=int,
                            help="default: by chance; with --quick always the same")
        parser.add_argument("--keep", action="store_true", help="keep the folder")
        add(parser)
        self.name = name
        self.args = parser.parse_args()
        self.args.seed = kill.seed_of(self.args)
        self.chance = random.Random(self.args.seed)
        self.program = (os.environ.get("HEADRACE_BIN")
                        or str(ROOT / "build" / "release" / "app" / "headrace"))
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"prove-{name}-"))
        self.stopping = threading.Event()
        self.troubles = []
        self.whole = True  # False: it was ended before it had run all
        self.loads = 0
        self.say(f"seed {self.args.seed}, {self.folder}")

    def say(self, text):
        print(f"{self.name}: {text}", file=sys.stderr, flush=True)

    def trouble(self, text):
        self.troubles.append(text)
        self.say(f"WRONG: {text}")

    def check_answers(self, allowed):
        """Nobody was told anything else."""
        for answer in set(answers) - set(allowed):
            self.trouble(f"{answers[answer]} times the answer was '{answer}'")

    def begin(self, daemon, inputs):
        """The producers begin; a second load has ids of its own."""
        self.stopping.clear()
        self.loads += 1
        for one in inputs:
            one.threads.clear()
            if not isinstance(one, Posted):
                if self.loads == 1:
                    one.start(daemon, self.stopping)
                continue
            for number in range(one.count):
                one.go(one._produce, daemon, self.stopping, 100 * self.loads + number)

    def rest(self, inputs):
        self.stopping.set()
        for one in inputs:
            one.join()

    def judge(self, daemon, inputs, handled, quiet_s=20):
        """Drains, compares, stops; the counts."""
        status, is_drained = kill.drain(daemon, inputs, handled, quiet_s)
        letters = daemon.dead_letters()
        daemon.stop()
        if not is_drained:
            self.trouble("not drained")
        return self.weigh(inputs, handled, [status], letters)

    def weigh(self, inputs, handled, statuses, letters):
        """Compares when all daemons have ended; the counts."""
        handled.read()
        found, figures = judge(inputs, handled, statuses, dead_of(inputs, letters), self.say)
        for kind, count in found.items():
            self.trouble(f"{kind}: {count}")
        return figures

    def finish(self, runs, result, daemon=None):
        """Prints the line; the exit status."""
        ok = not self.troubles and self.whole
        if ok and not self.args.keep:
            shutil.rmtree(self.folder)
        else:
            if daemon is not None:
                (self.folder / "daemon.log").write_text("\n".join(daemon.lines))
            self.say(f"what is left: {self.folder}")
        print(json.dumps({"proof": self.name, "runs": runs, "ok": ok, "whole": self.whole,
                          "seed": self.args.seed, **result, "wrong": self.troubles[:10]}), flush=True)
        return 0 if ok else 1

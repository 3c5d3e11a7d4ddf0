#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The README's first steps, command by command as they stand there, and its IoT file.

Usage: docs_readme.py HEADRACE
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
from daemon import free_port  # noqa: E402

LIMIT_S = 60


def blocks():
    return re.findall(r"^```\w*\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)


def block(begin):
    found = [one for one in blocks() if begin in one]
    assert len(found) == 1, f"README has {len(found)} blocks with '{begin}'"
    return found[0]


def commands(text):
    """The commands of a block, one each, without their comments."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [re.sub(r" +#.*$", "", line) for line in lines]


def check_iot():
    whole = (ROOT / "examples/iot/headrace.yaml").read_text()
    real = {re.sub(r" +#.*$", "", line) for line in whole.splitlines()}
    for line in block("+device/temp").splitlines():
        assert re.sub(r" +#.*$", "", line) in real, f"README's IoT file is not the example's: {line}"
    print("ok the IoT file of the README is that of the example", flush=True)


class Steps:
    def __init__(self, program, folder):
        self.folder = folder
        self.port = free_port()
        path = f"{pathlib.Path(program).resolve().parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path}
        self.id = None
        self.daemon = None
        for name in ("headrace.yaml", "hot.py"):
            (folder / name).write_text(block(f"# {name}\n"))
        # the one thing that differs: a free port
        (folder / "port.yaml").write_text(f"settings: {{ listen: 127.0.0.1:{self.port} }}\n")

    def start(self, command):
        words = [*command.split(), "-c", "headrace.yaml", "-c", "port.yaml"]
        self.daemon = subprocess.Popen(words, cwd=self.folder, env=self.environment,
                                       stderr=subprocess.PIPE, text=True)
        for line in self.daemon.stderr:
            if "running; state in .headrace" in line:
                return
        raise AssertionError("it does not run")

    def end(self):
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.kill()

    def run(self, command):
        command = command.replace("7080", str(self.port)).replace("trace ID", f"trace {self.id}")
        done = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=LIMIT_S)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def run_until(self, command, pattern):
        end = time.monotonic() + LIMIT_S
        while not re.search(pattern, out := self.run(command)):
            assert time.monotonic() < end, f"{command}: never '{pattern}':\n{out}"
            time.sleep(0.05)


def check_steps(steps):
    first = commands(block("headrace check   "))
    assert first == ["headrace check", "headrace run"], first
    assert steps.run(first[0]) == "ok: 1 trigger, 1 function\n"
    steps.start(first[1])
    wanted = {
        "curl ": lambda out: re.search(r'"ids":\["hooks-\w+"\]', out),
        "emit hooks --data '{\"celsius\": 21}'": lambda out: "filtered" in out,
        "emit hooks --data '{\"celsius\": 131}'": lambda out: "retrying   1 of 3" in out,
        "status": lambda out: re.search(r"^hot +hooks +up", out, re.M),
        "logs hot": lambda out: "reading {'celsius': 131}" in out,
        "trace ": lambda out: "the sensor must be broken" in out,
        "dlq": lambda out: "attempts exhausted" in out and "the sensor must be broken" in out,
        "reload": lambda out: out == "reloaded: 1 trigger, 1 function\n",
        "dlq replay": lambda out: out == "replayed 1\n",
    }
    seen = []
    for command in commands(block("headrace trace ID")):
        if command == "headrace tap":
            continue
        if command == "headrace dlq":
            steps.run_until("headrace dlq", "attempts exhausted")
        if command == "headrace reload":
            handler = steps.folder / "hot.py"
            handler.write_text(handler.read_text().replace("> 100:", "> 1000:"))
        out = steps.run(command)
        key = max((key for key in wanted if key in command), key=len)
        assert wanted[key](out), f"{command}:\n{out}"
        seen.append(key)
        if "emit" in command:
            steps.id = re.search(r"→ hooks  (\S+)", out).group(1)
    assert seen == list(wanted), seen
    steps.run_until("headrace dlq", "^no dead letters$")
    steps.run_until("headrace status --json", '"pending": ?0')
    totals = json.loads(steps.run("headrace status --json"))["totals"]
    assert totals["deliveries"] == 4 and totals["delivered"] == 2, totals
    assert totals["filtered"] == totals["dead"] == 1, totals
    steps.daemon.send_signal(signal.SIGINT)
    assert steps.daemon.wait(LIMIT_S) == 0
    print(f"ok the {len(seen)} first steps do what the README says", flush=True)


def main():
    check_iot()
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(sys.argv[1], pathlib.Path(folder))
        try:
            check_steps(steps)
        finally:
            steps.end()


if __name__ == "__main__":
    main()

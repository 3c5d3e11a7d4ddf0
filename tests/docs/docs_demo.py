#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo, over a real mosquitto and without one: what scrolls by is found by `trace`, the summary
adds up, and nothing is left behind, however it ends.

Usage: docs_demo.py HEADRACE mosquitto|none
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

LIMIT_S = 60
LINE = re.compile(r"^\d\d:\d\d:\d\d\.\d{3}  (\S+) +(?:──▶ (\S+) +)?(\w+).*\[(\S+)\]$")
KEYS = ("delivered", "filtered", "dropped", "dead", "expired", "pending")


def state_of(pid):
    """The state of a process and its parent; Z: it has ended."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "Z", 0
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1])


def mosquitto_of(pid):
    """The mosquitto that this process started; None: none."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or state_of(entry.name)[1] != pid:
            continue
        try:
            if (entry / "comm").read_text().strip() == "mosquitto":
                return int(entry.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s"
        time.sleep(0.02)


class Demo:
    def __init__(self, program, kind, *words):
        self.program = program
        self.kind = kind
        more = [] if kind == "mosquitto" else ["--mosquitto", "/nonexistent/mosquitto"]
        self.process = subprocess.Popen([program, "demo", *more, *words], stdout=subprocess.PIPE,
                                        text=True)

    def banner(self):
        """Reads up to the empty line; the folder of the state."""
        lines = []
        for line in self.process.stdout:
            if line == "\n":
                break
            lines.append(line)
        text = "".join(lines)
        self.folder = re.search(r"state in (\S+), gone at the end", text).group(1)
        expected = {"mosquitto": "over MQTT, by a private mosquitto on port",
                    "none": "made-up thermometers, no MQTT: there is no '/nonexistent/mosquitto'"}
        assert expected[self.kind] in text, text
        self.mosquitto = mosquitto_of(self.process.pid)
        assert (self.mosquitto is not None) == (self.kind == "mosquitto"), self.mosquitto
        return self

    def line(self):
        text = self.process.stdout.readline().rstrip("\n")
        match = LINE.match(text)
        assert match, f"not a line of the demo: '{text}'"
        return match.groups()

    def ask(self, *words):
        done = subprocess.run([self.program, *words, "--state", self.folder, "--json"],
                              stdout=subprocess.PIPE, text=True, check=True, timeout=LIMIT_S)
        return json.loads(done.stdout)

    def is_clean(self):
        """Neither mosquitto nor folder is left."""
        return (self.mosquitto is None or state_of(self.mosquitto)[0] == "Z") and not os.path.exists(
            self.folder)


def check_summary(text):
    received = re.search(r"^(\d+) events received \((.*)\)$", text, re.M)
    by_trigger = {name: int(count) for name, count in
                  (pair.split() for pair in received.group(2).split(", "))}
    assert sum(by_trigger.values()) == int(received.group(1)), text
    assert set(by_trigger) == {"temps", "uploads", "nightly"} and all(by_trigger.values()), text
    parts = re.search(r"^(\d+) deliveries = (.*)$", text, re.M)
    counts = [int(part.split()[0]) for part in parts.group(2).split(" + ")]
    assert [part.split()[1] for part in parts.group(2).split(" + ")] == list(KEYS), text
    assert sum(counts) == int(parts.group(1)) > 0, text


def watch(program, kind):
    """Until all has been seen that the demo is to show; then Ctrl-C."""
    demo = Demo(program, kind).banner()
    seen, ids = set(), set()
    wanted = {("temps", "filtered"), ("temps", "delivered"), ("hot", "delivered"),
              ("uploads", "delivered"), ("uploads", "retrying"), ("uploads", "dead"),
              ("nightly", "delivered")}
    end = time.monotonic() + LIMIT_S
    while not wanted <= seen:
        assert time.monotonic() < end, f"never seen: {wanted - seen}"
        source, _, what, name = demo.line()
        seen.add((source, what))
        ids.add(name)
    for name in ids:
        trace = demo.ask("trace", name)
        assert trace["known"] and trace["notes"], trace
    status = demo.ask("status")
    assert all(trigger["received"] > 0 for trigger in status["triggers"]), status
    temps = next(trigger for trigger in status["triggers"] if trigger["name"] == "temps")
    assert temps["kind"] == {"mosquitto": "mqtt", "none": "demo"}[kind], temps
    demo.process.send_signal(signal.SIGINT)
    rest = demo.process.communicate(timeout=LIMIT_S)[0]
    assert demo.process.returncode == 0, demo.process.returncode
    check_summary(rest)
    assert demo.is_clean(), demo.folder
    print(f"ok {len(ids)} events scrolled by, each is traced; the summary adds up", flush=True)


def ends(program, kind):
    demo = Demo(program, kind).banner()
    demo.line()
    demo.process.terminate()
    demo.process.communicate(timeout=LIMIT_S)
    assert demo.process.returncode == 0 and demo.is_clean(), demo.process.returncode
    print("ok SIGTERM ends it and leaves nothing behind", flush=True)

    demo = Demo(program, kind).banner()
    demo.process.stdout.close()
    assert demo.process.wait(LIMIT_S) == 0 and demo.is_clean()
    print("ok it ends when nobody reads it any more", flush=True)

    demo = Demo(program, kind).banner()
    demo.line()
    demo.process.kill()
    demo.process.communicate(timeout=LIMIT_S)
    if kind == "mosquitto":
        wait_until(lambda: state_of(demo.mosquitto)[0] == "Z", "mosquitto dies with the demo")
    shutil.rmtree(demo.folder)
    print("ok kill -9 leaves no process behind", flush=True)


def as_json(program, kind):
    demo = Demo(program, kind, "--for", "4s", "--json")
    out = demo.process.communicate(timeout=LIMIT_S)[0]
    assert demo.process.returncode == 0, demo.process.returncode
    summary = json.loads(out)
    assert summary["deliveries"] == sum(summary[key] for key in KEYS) > 0, summary
    assert summary["received"] == sum(summary["triggers"].values()), summary
    assert len(summary["triggers"]) == 3 and all(summary["triggers"].values()), summary
    print("ok --for 4s --json ends with one object that adds up", flush=True)


def main():
    program, kind = sys.argv[1:]
    watch(program, kind)
    ends(program, kind)
    as_json(program, kind)


if __name__ == "__main__":
    main()

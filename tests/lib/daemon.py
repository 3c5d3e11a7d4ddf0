# SPDX-License-Identifier: Apache-2.0
"""The real daemon for a test: its configuration, its life, its command line.

    with Daemon(program, folder, CONFIG) as daemon:
        daemon.url("/hooks/uploads"); daemon.ask("status"); daemon.kill9(); daemon.start()

The state lies in FOLDER/state and survives kill9() and start(). A configuration that listens on
port 0 gets a free port once and keeps it over restarts.
"""
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading

LIMIT_S = 60


def free_port():
    """The first of five ports that nobody listens on, below those that the kernel gives to clients:
    a service that opens its neighbours too finds them free."""
    while True:
        base = random.randrange(10000, 19990, 5)
        try:
            for port in range(base, base + 5):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue


def whole_lines(path):
    """The lines of a file that somebody still writes to. A reader may meet a write half done, though
    it was one call: what stands behind the last newline is left for the next look."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


class Daemon:
    prefix = ()  # what stands before the words of `run`

    def __init__(self, program, folder, config, environment=None):
        self.program = str(program)
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.config = self.folder / "headrace.yaml"
        self.config.write_text(config.replace("127.0.0.1:0", f"127.0.0.1:{self.port}"))
        self.environment = {**os.environ, **(environment or {})}
        self.lines = []
        self.changed = threading.Condition()
        self.process = None
        self.reader = None

    def _words(self, *words):
        return [self.program, *map(str, words), "--state", str(self.folder / "state")]

    def _read(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.lines.append("(end)")
            self.changed.notify_all()

    def wait_line(self, pattern, begin=0):
        """The first log line since line number begin that matches; fails if the daemon ends."""

        def found():
            for line in self.lines[begin:]:
                if re.search(pattern, line) or line == "(end)":
                    return line
            return None

        with self.changed:
            line = self.changed.wait_for(found, LIMIT_S)
        if line is None or line == "(end)":
            log = "\n".join(self.lines[begin:])
            raise AssertionError(f"no line '{pattern}' within {LIMIT_S} s:\n{log}")
        return line

    def launch(self):
        """Starts the process and waits for nothing."""
        self.process = subprocess.Popen(
            [*self.prefix, *self._words("run", "-c", self.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self.environment,
        )
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def start(self):
        begin = len(self.lines)
        self.launch()
        self.wait_line(r"\brunning\b", begin)

    def stop(self):
        """Ends it as a service manager does; it must end with 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(LIMIT_S)
        self.reader.join(LIMIT_S)
        self.process = None
        assert code == 0, f"the daemon ended with {code}:\n" + "\n".join(self.lines[-20:])

    def kill9(self):
        self.process.kill()
        self.process.wait(LIMIT_S)
        self.reader.join(LIMIT_S)
        self.process = None

    def forget_port(self):
        """For starts whose port nobody needs to know: the kernel gives one, so it is never taken."""
        self.config.write_text(self.config.read_text().replace(f"127.0.0.1:{self.port}",
                                                               "127.0.0.1:0"))

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(self, *words, code=0):
        """The JSON that a verb prints; several values give a list. It must end with code."""
        done = subprocess.run(
            self._words(*words, "--json"),
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            env=self.environment,
        )
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}"
        values, text, reader = [], done.stdout.strip(), json.JSONDecoder()
        while text:
            value, end = reader.raw_decode(text)
            values.append(value)
            text = text[end:].lstrip()
        return values[0] if len(values) == 1 else values

    def say(self, *words):
        """What a verb prints for people."""
        return subprocess.run(self._words(*words), stdout=subprocess.PIPE, text=True, check=True,
                              timeout=LIMIT_S, env=self.environment).stdout

    def dead_letters(self):
        """All that `dlq ls` has, page by page."""
        page = self.ask("dlq", "ls", "--limit", "1000")
        letters = page["dead"]
        while "next" in page:
            page = self.ask("dlq", "ls", "--limit", "1000", "--from", page["next"])
            letters += page["dead"]
        return letters

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *rest):
        if self.process is not None:
            if kind is None:
                self.stop()
            else:
                self.kill9()
                print("\n".join(self.lines[-60:]))

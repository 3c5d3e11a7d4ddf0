#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An event is on the disk before its sender hears so: seen in the system calls of the daemon.

Between reading a request and writing its 202 there must be a write to the write-ahead log and after
it an fdatasync of the same file that has ended. Usage: daemon_store_order.py HEADRACE
"""
import http.client
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from daemon import LIMIT_S, Daemon  # noqa: E402

REQUESTS = 20
CALLS = "read,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync"
CONFIG = """
settings:
  listen: 127.0.0.1:0
triggers:
  hooks:
    webhook: { path: /hooks/a, dialect: json, insecure: true }
"""
LINE = re.compile(r"^(\d+) +(.*)$")


class Traced(Daemon):
    """The daemon below strace, which ends with it and with its exit status."""

    def stop(self):
        os.kill(self.ask("status")["pid"], signal.SIGTERM)
        assert self.process.wait(LIMIT_S) == 0, "\n".join(self.lines[-20:])
        self.reader.join(LIMIT_S)
        self.process = None

    def _words(self, *words):
        own = super()._words(*words)
        if words[0] != "run":
            return own
        trace = ["strace", "-f", "-y", "-s", "2000", "-e", f"trace={CALLS}", "-e", "signal=none"]
        return [*trace, "-o", str(self.folder / "trace"), *own]


def steps(text):
    """(what, text) in the order of time: a call begins, a call ended (with the text of its begin)."""
    begun = {}
    for line in text.splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        thread, call = found.groups()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call
            yield "begin", call
        elif call.startswith("<... "):
            yield "end", begun.pop(thread, "") + call
        else:
            yield "begin", call
            yield "end", call


def judge(text, number):
    """None when the order is right, else what is wrong with request `number`."""
    mark = f"marker-{number:04d}"
    was_read = was_written = is_synced = False
    syncs = 0
    for what, call in steps(text):
        name = call.split("(", 1)[0]
        if what == "end" and name in ("read", "recvfrom", "recvmsg") and mark in call:
            was_read = True
        elif not was_read:
            continue
        elif what == "end" and name == "pwrite64" and "-wal>" in call:
            was_written = True
        elif name in ("fdatasync", "fsync") and "-wal>" in call:
            if what == "begin":
                syncs = syncs + 1 if was_written else syncs
            elif syncs > 0 and call.rstrip().endswith("= 0"):
                is_synced = True
        elif what == "begin" and "HTTP/1.1 202" in call:
            return None if is_synced else f"request {number}: 202 before its fdatasync: {call[:200]}"
    return f"request {number}: {'no 202' if was_read else 'not read'} in the trace"


def o_s1_no_202_leaves_before_the_sync_of_its_commit(program, folder):
    with Traced(program, folder, CONFIG) as daemon:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        for number in range(REQUESTS):
            connection.request("POST", "/hooks/a", f'{{"mark": "marker-{number:04d}"}}',
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 202, answer.status
        connection.close()
    text = (folder / "trace").read_text(errors="replace")
    wrong = [one for one in (judge(text, number) for number in range(REQUESTS)) if one]
    for one in wrong:
        print(one)
    if wrong:
        print(text[:20000])
    return not wrong


def main():
    assert shutil.which("strace"), "strace is missing"
    # the judge itself must see what is wrong
    good = ('1 recvfrom(9<socket:[1]>, "POST marker-0001", 99) = 16\n'
            '2 pwrite64(5</s/db-wal>, "x", 1, 0) = 1\n2 fdatasync(5</s/db-wal> <unfinished ...>\n'
            '1 read(3<pipe>, "", 1) = 0\n2 <... fdatasync resumed>) = 0\n'
            '1 sendto(9<socket:[1]>, "HTTP/1.1 202 Accepted", 21) = 21\n')
    early = good.replace("2 <... fdatasync resumed>) = 0\n", "")
    assert judge(good, 1) is None and judge(early, 1) is not None
    with tempfile.TemporaryDirectory() as name:
        is_ok = o_s1_no_202_leaves_before_the_sync_of_its_commit(sys.argv[1], pathlib.Path(name))
    return 0 if is_ok else 1


if __name__ == "__main__":
    sys.exit(main())

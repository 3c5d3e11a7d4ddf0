#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Functions in the daemon's own process: the example as its page says, and what becomes of an event
that crashes the daemon each time.

Usage: daemon_native.py HEADRACE
"""
import http.client
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from daemon import LIMIT_S, Daemon  # noqa: E402

LISTEN = "settings:\n  listen: 127.0.0.1:0\n"

POISON_C = """
#include "handler.h"
#include <stdlib.h>
#include <string.h>

static void handle(const headrace_api *api, void *state, headrace_call *call, uint32_t count) {
    (void)state;
    for (uint32_t i = 0; i < count; i++) {
        headrace_text data = api->data(call, i);
        if (memmem(data.bytes, data.size, "poison", 6) != NULL) {
            abort();
        }
        api->log(call, i, HEADRACE_INFO, "handled");
    }
}

const headrace_handler headrace_function = {HEADRACE_ABI, sizeof(headrace_handler), NULL, handle,
                                            NULL};
"""

POISON_YAML = LISTEN + """
triggers:
  readings:
    webhook: { path: /readings, dialect: json, insecure: true }
functions:
  fragile:
    from: readings
    native: poison.so
    isolation: none
    batch: { size: 8 }
    retry: { attempts: 2, backoff: 10ms..20ms }
"""


def compile_object(source, target):
    subprocess.run(
        ["cc", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-I", ROOT / "functions", "-o", target]
        + [source],
        check=True,
    )


def post(daemon, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=LIMIT_S)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 202, f"POST {path}: {answer.status}"


def function(daemon, name):
    return next(f for f in daemon.ask("status")["functions"] if f["name"] == name)


def wait_until(what, holds):
    end = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {LIMIT_S} s: {what}")
        time.sleep(0.05)  # between looks; nothing rests on its length


def the_example_turns_hot_readings_into_alarms(program, folder):
    example = ROOT / "examples" / "native"
    folder.mkdir()
    compile_object(example / "hot.c", folder / "hot.so")
    config = LISTEN + (example / "headrace.yaml").read_text()
    with Daemon(program, folder, config) as daemon:
        for temp in [20, 36.5, 35, 50, "x"]:
            post(daemon, "/readings", json.dumps({"temp": temp}, separators=(",", ":")))
        wait_until("alarms of two hot readings", lambda: function(daemon, "tell")["delivered"] == 2)
        hot = function(daemon, "hot")
        assert (hot["delivered"], hot["dead"]) == (4, 1), hot
        lines = subprocess.run(
            daemon._words("logs", "tell"), stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        assert '{"alarm":36.5}' in lines and '{"alarm":50.0}' in lines, lines


def a_file_that_is_no_function_stops_the_start_with_one_line(program, folder):
    folder.mkdir()
    shutil.copy("/bin/true", folder / "poison.so")
    daemon = Daemon(program, folder, POISON_YAML)
    daemon.launch()
    assert daemon.process.wait(LIMIT_S) == 78
    daemon.reader.join()
    said = [line for line in daemon.lines if "function 'fragile'" in line]
    assert len(said) == 1, daemon.lines


def o_f2_an_event_that_crashes_the_daemon_ends_as_a_dead_letter(program, folder):
    folder.mkdir()
    (folder / "poison.c").write_text(POISON_C)
    compile_object(folder / "poison.c", folder / "poison.so")
    daemon = Daemon(program, folder, POISON_YAML)
    daemon.start()
    daemon.process.send_signal(19)  # SIGSTOP: the posts below reach the function as one batch
    senders = [
        subprocess.Popen(["curl", "-s", "-o", "/dev/null", "-d", body, daemon.url("/readings")])
        for body in ['{"n":1}', '{"n":2}', '"poison"', '{"n":3}']
    ]
    time.sleep(0.2)  # so that most of them wait in the socket; the test holds without it
    daemon.process.send_signal(18)
    crashes = 0
    for _ in range(20):
        try:
            code = daemon.process.wait(3)
        except subprocess.TimeoutExpired:
            if all(sender.poll() is not None for sender in senders):
                break
            continue
        assert code == -6, f"ended with {code}"
        crashes += 1
        daemon.reader.join()
        daemon.start()
    for sender in senders:
        sender.wait(LIMIT_S)
    post(daemon, "/readings", '{"n":4}')
    wait_until("the end of each event", lambda: function(daemon, "fragile")["pending"] == 0)
    fragile = function(daemon, "fragile")
    assert 1 <= fragile["dead"] <= 1 and fragile["delivered"] >= 1, fragile
    dead = daemon.ask("dlq", "ls")
    text = json.dumps(dead)
    assert "crashed the daemon" in text, text
    assert 2 <= crashes <= 8, f"{crashes} crashes"
    daemon.stop()
    print(f"{crashes} crashes for 2 attempts", flush=True)


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        for claim in [
            the_example_turns_hot_readings_into_alarms,
            a_file_that_is_no_function_stops_the_start_with_one_line,
            o_f2_an_event_that_crashes_the_daemon_ends_as_a_dead_letter,
        ]:
            claim(program, pathlib.Path(folder) / claim.__name__)
            print("ok", claim.__name__, flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A configuration changed under a running daemon: taken when it is right, refused whole when not,
and no request refused nor event lost on the way.

Usage: daemon_reload.py HEADRACE
"""
import http.client
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from daemon import LIMIT_S, Daemon  # noqa: E402

BASE = """
settings:
  listen: 127.0.0.1:%(port)d
triggers:
  readings:
    webhook: { path: /readings, dialect: json, insecure: true }
functions:
  all:
    from: readings
    shell: cat > /dev/null
    order: none
"""
HOT = BASE + """
  hot:
    from: readings
    when: data.temp > 30
    shell: 'true'
"""
STUCK = BASE + """
  stuck:
    from: readings
    shell: exit 1
    retry: { attempts: 5, backoff: 1h..2h }
"""
FAILS = BASE + """
  once:
    from: readings
    shell: exit 1
    retry: { attempts: 1 }
"""
WORKS = FAILS.replace("exit 1", "'true'")
WRONG = BASE.replace("from: readings", "frm: readings")
BROKEN = BASE + """
  broken:
    from: readings
    native: no_object.so
    isolation: none
"""


def wait_until(what, holds):
    end = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {LIMIT_S} s: {what}")
        time.sleep(0.05)  # between looks; nothing rests on its length


def post(daemon, body):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=LIMIT_S)
    connection.request("POST", "/readings", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def functions(daemon):
    return {f["name"]: f for f in daemon.ask("status")["functions"]}


def write(daemon, text):
    daemon.config.write_text(text % {"port": daemon.port})


def reload(daemon):
    done = subprocess.run(daemon._words("reload"), capture_output=True, text=True, timeout=LIMIT_S)
    return done.returncode, done.stdout + done.stderr


def make(program, folder):
    daemon = Daemon(program, folder, BASE.replace("%(port)d", "0"))
    write(daemon, BASE)
    return daemon


def a_new_function_takes_from_then_on(program, folder):
    with make(program, folder) as daemon:
        assert post(daemon, {"temp": 40}) == 202
        write(daemon, HOT)
        assert reload(daemon) == (0, "reloaded: 1 trigger, 2 functions\n"), reload(daemon)
        assert post(daemon, {"temp": 41}) == 202
        assert post(daemon, {"temp": 10}) == 202
        wait_until("all is handled", lambda: functions(daemon)["all"]["delivered"] == 3)
        wait_until("hot is handled", lambda: functions(daemon)["hot"]["delivered"] == 1)
        wait_until("the cold one is passed over", lambda: functions(daemon)["hot"]["filtered"] == 1)


def o_l2_a_wrong_file_changes_nothing_and_says_where(program, folder):
    with make(program, folder) as daemon:
        write(daemon, WRONG)
        code, said = reload(daemon)
        assert code == 78 and "frm" in said and "headrace.yaml:9" in said, (code, said)
        assert "former configuration goes on" in said, said
        assert post(daemon, {"temp": 1}) == 202
        wait_until("the event", lambda: functions(daemon)["all"]["delivered"] == 1)


def what_cannot_start_is_undone(program, folder):
    with make(program, folder) as daemon:
        shutil.copy("/bin/true", folder / "no_object.so")
        write(daemon, BROKEN)
        code, said = reload(daemon)
        assert code == 1 and "broken" in said, (code, said)
        assert post(daemon, {"temp": 1}) == 202
        wait_until("the event", lambda: functions(daemon)["all"]["delivered"] == 1)
        assert "broken" not in functions(daemon)
        write(daemon, HOT)
        assert reload(daemon)[0] == 0


def a_signal_does_the_same(program, folder):
    with make(program, folder) as daemon:
        write(daemon, HOT)
        begin = len(daemon.lines)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_line("the new configuration runs: 1 trigger, 2 functions", begin)
        begin = len(daemon.lines)
        write(daemon, WRONG)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_line("the new configuration is wrong", begin)
        assert set(functions(daemon)) == {"all", "hot"}


def o_l2_events_of_a_removed_function_are_named(program, folder):
    with make(program, folder) as daemon:
        write(daemon, STUCK)
        assert reload(daemon)[0] == 0
        assert post(daemon, {"temp": 1}) == 202
        wait_until("it waits", lambda: functions(daemon)["stuck"]["pending"] == 1)
        write(daemon, BASE)
        assert reload(daemon)[0] == 0
        wait_until("its place", lambda: "removed" in json.dumps(daemon.ask("dlq", "ls")))


def a_function_that_comes_back_has_no_replays_of_its_former_life(program, folder):
    """The journal of replays still holds them: they are history of the one that was removed."""
    with make(program, folder) as daemon:
        write(daemon, FAILS)
        assert reload(daemon)[0] == 0
        assert post(daemon, {"temp": 1}) == 202
        wait_until("it is dead", lambda: functions(daemon)["once"]["dead"] == 1)
        write(daemon, WORKS)
        assert reload(daemon)[0] == 0
        daemon.ask("dlq", "replay", "--function", "once")
        wait_until("its replay", lambda: functions(daemon)["once"]["delivered"] == 1)
        write(daemon, BASE)
        assert reload(daemon)[0] == 0
        write(daemon, WORKS)
        assert reload(daemon)[0] == 0
        assert post(daemon, {"temp": 2}) == 202
        wait_until("the new event", lambda: functions(daemon)["once"]["delivered"] > 0)
        again = functions(daemon)["once"]
        assert again["delivered"] == 1 and again["pending"] == 0, again


def o_l2_nothing_is_refused_or_lost_under_load(program, folder):
    """Posts without a pause through twenty reloads, every second of them wrong."""
    with make(program, folder) as daemon:
        kept, troubles, is_over = [0], [], threading.Event()

        def send():
            while not is_over.is_set():
                try:
                    status = post(daemon, {"temp": 50})
                except OSError as error:  # a reset connection was not acknowledged, a refused one
                    if isinstance(error, ConnectionRefusedError):  # shows a closed port
                        troubles.append(repr(error))
                    continue
                except http.client.HTTPException:
                    continue
                if status == 202:
                    kept[0] += 1
                elif status != 503:
                    troubles.append(f"status {status}")

        sender = threading.Thread(target=send)
        sender.start()
        for round_number in range(20):
            before = kept[0]
            write(daemon, WRONG if round_number % 2 else HOT if round_number % 4 else BASE)
            code, said = reload(daemon)
            assert code == (78 if round_number % 2 else 0), said
            wait_until("a post", lambda: kept[0] > before)
        is_over.set()
        sender.join()
        assert not troubles, troubles[:5]
        wait_until("all is settled", lambda: functions(daemon)["all"]["pending"] == 0)
        settled = functions(daemon)["all"]
        assert settled["delivered"] >= kept[0], (settled, kept)
        assert settled["drift"] == 0, settled


def main():
    program = sys.argv[1]
    only = sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        for claim in [
            a_new_function_takes_from_then_on,
            o_l2_a_wrong_file_changes_nothing_and_says_where,
            what_cannot_start_is_undone,
            a_signal_does_the_same,
            o_l2_events_of_a_removed_function_are_named,
            a_function_that_comes_back_has_no_replays_of_its_former_life,
            o_l2_nothing_is_refused_or_lost_under_load,
        ]:
            if only and claim.__name__ not in only:
                continue
            claim(program, pathlib.Path(folder) / claim.__name__)
            print("ok", claim.__name__, flush=True)


if __name__ == "__main__":
    main()

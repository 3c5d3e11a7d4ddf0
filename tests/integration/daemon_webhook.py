#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The real daemon from the request of a webhook to the end of each of its events.

Usage: daemon_webhook.py HEADRACE
"""
import hashlib
import hmac
import http.client
import http.server
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from daemon import Daemon  # noqa: E402

LIMIT_S = 20
SECRET = "octocat's secret"

CONFIG = """
settings:
  listen: 127.0.0.1:0
triggers:
  readings:
    webhook: { path: /hooks/readings, dialect: json, insecure: true, max_body: 4KiB }
  github:
    webhook: { path: /hooks/github, dialect: github, secret: "%(secret)s" }
  codes:
    webhook: { path: /hooks/codes, dialect: json, insecure: true }
  posts:
    webhook: { path: /hooks/posts, dialect: json, insecure: true }
functions:
  act:
    from: readings
    python: act.py
    order: none
    concurrency: 4
    workers: 2
    timeout: 1s
    retry: { attempts: 2, backoff: 10ms..20ms }
  chained:
    from: act
    python: act.py:chained
  pushes:
    from: github
    when: type = 'com.github.push'
    shell: cat
  exits:
    from: codes
    order: none
    retry: { attempts: 2, backoff: 10ms..20ms }
    shell: 'echo "said to stderr" >&2; exit $(cat)'
  forward:
    from: posts
    order: none
    http: http://127.0.0.1:%(port)d/in
    retry: { attempts: 3, backoff: 10ms..20ms }
"""

HANDLER = """
import os
import signal
import time

import headrace

seen = {}


def handle(event, ctx):
    seen[event.id] = seen.get(event.id, 0) + 1
    do = event.data["do"]
    if do == "print":
        print("a line of", event.id)
    elif do == "raise":
        raise ValueError("too hot")
    elif do == "raise once" and event.attempt == 1:
        raise ValueError("only the first time")
    elif do == "retry" and seen[event.id] == 1 and not os.path.exists(event.id):
        open(event.id, "w").close()
        raise headrace.Retry("not yet", after=0.3)
    elif do == "wait":
        if event.attempt == 1:
            raise ValueError("the first time")
        if not os.path.exists("go"):
            raise headrace.Retry("not before it may go", after=2)
    elif do == "drop":
        raise headrace.Drop("of no use")
    elif do == "dead":
        raise headrace.Dead("nothing helps")
    elif do == "sleep":
        time.sleep(60)
    elif do == "exit":
        os._exit(3)
    elif do == "no memory":
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does it
    elif do == "garbage":
        os.write(3, b"this is no frame of the protocol")
        time.sleep(60)
    return {"did": do, "attempt": event.attempt}


def chained(event, ctx):
    print("chained", event.data["did"])
"""


class Peer(http.server.BaseHTTPRequestHandler):
    """Answers as its request's data asks, and writes the requests down."""

    requests = []
    lock = threading.Lock()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock:
            before = [r for r in self.requests if r["id"] == self.headers["ce-id"]]
            self.requests.append({"id": self.headers["ce-id"], "body": body, "at": time.monotonic(),
                                  "type": self.headers["ce-type"]})
        status = body["answers"][min(len(before), len(body["answers"]) - 1)]
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


def post(daemon, path, body, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=LIMIT_S)
    body = body if isinstance(body, (bytes, str)) else json.dumps(body)
    connection.request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def send(daemon, path, body, headers=None):
    """The id of an event that is taken."""
    status, text = post(daemon, path, body, headers)
    assert status == 202, (status, text)
    ids = json.loads(text)["ids"]
    assert len(ids) == 1, ids
    return ids[0]


def wait(probe, what):
    end = time.monotonic() + LIMIT_S
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s"
        time.sleep(0.02)


def note(daemon, id_, function, what):
    """The note of the event's trace that says so, once it is there."""

    def probe():
        notes = daemon.ask("trace", id_)["notes"]
        return [n for n in notes if n.get("function") == function and n["what"] == what]

    return wait(probe, f"{id_}: {function} {what}")[-1]


def act(daemon, do):
    return send(daemon, "/hooks/readings", {"do": do})


def letter(daemon, id_):
    found = [one for one in daemon.ask("dlq", "ls")["dead"] if one["id"] == id_]
    assert len(found) == 1, (id_, found)
    return found[0]


def received(daemon, trigger):
    status = daemon.ask("status")
    return next(t["received"] for t in status["triggers"] if t["name"] == trigger)


def function(daemon, name):
    return next(f for f in daemon.ask("status")["functions"] if f["name"] == name)


# ---- intake ----


def only_what_is_right_is_stored(daemon):
    before = received(daemon, "readings")
    assert post(daemon, "/hooks/readings", '{"do": ')[0] == 400
    assert post(daemon, "/hooks/readings", "")[0] == 400
    assert post(daemon, "/hooks/readings", {"do": "x" * 5000})[0] == 413
    assert post(daemon, "/hooks/nobody", {})[0] == 404
    assert received(daemon, "readings") == before
    send(daemon, "/hooks/readings", {"do": "nothing"})
    assert received(daemon, "readings") == before + 1


def sign(body):
    digest = hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def an_unsigned_delivery_stores_nothing(daemon):
    body = '{"ref": "refs/heads/main"}'
    push = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d-0"}
    before = received(daemon, "github")
    assert post(daemon, "/hooks/github", body, push)[0] == 401
    assert post(daemon, "/hooks/github", body, {**push, **sign(body + " ")})[0] == 401
    assert received(daemon, "github") == before


def o_s2_a_repeated_delivery_is_one_event(daemon):
    body = '{"ref": "refs/heads/main"}'
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1", **sign(body)}
    before = received(daemon, "github")
    assert send(daemon, "/hooks/github", body, headers) == "d-1"
    assert post(daemon, "/hooks/github", body, headers)[0] in (200, 202)
    assert received(daemon, "github") == before + 1
    delivered = note(daemon, "d-1", "pushes", "delivered")
    assert delivered["subject"] == "refs/heads/main", delivered
    daemon.kill9()
    daemon.start()
    assert post(daemon, "/hooks/github", body, headers)[0] in (200, 202)
    assert received(daemon, "github") == before + 1, "dedupe does not outlive a crash"


def what_no_filter_wants_is_filtered(daemon):
    body = '{"action": "opened", "issue": {"number": 7}}'
    headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": "d-2", **sign(body)}
    send(daemon, "/hooks/github", body, headers)
    assert note(daemon, "d-2", "pushes", "filtered")["subject"] == "7"


# ---- python ----


def a_result_goes_down_the_chain(daemon):
    id_ = act(daemon, "well")
    note(daemon, id_, "act", "delivered")
    result = f"{id_}/act/1"
    note(daemon, result, "chained", "delivered")
    lines = daemon.ask("logs", "chained", "--event", result)["lines"]
    assert [line["text"] for line in lines] == ["chained well"], lines


def what_it_prints_is_found_by_event(daemon):
    other, id_ = act(daemon, "print"), act(daemon, "print")
    note(daemon, other, "act", "delivered")
    note(daemon, id_, "act", "delivered")
    lines = daemon.ask("logs", "act", "--event", id_)["lines"]
    assert [line["text"] for line in lines] == [f"a line of {id_}"], lines


def o_f1_an_exception_is_tried_again(daemon):
    id_ = act(daemon, "raise once")
    note(daemon, id_, "act", "retrying")
    note(daemon, id_, "act", "delivered")


def o_f1_exhausted_attempts_are_a_dead_letter(daemon):
    id_ = act(daemon, "raise")
    note(daemon, id_, "act", "dead")
    found = letter(daemon, id_)
    assert found["reason"] == "attempts exhausted" and found["attempts"] == 2, found
    assert found["error"].startswith("ValueError: too hot (act.py:"), found
    shown = daemon.ask("dlq", "show", found["dead"])
    assert shown["event"]["data"] == {"do": "raise"}, shown


def retry_waits_and_costs_no_attempt(daemon):
    began = time.monotonic()
    id_ = act(daemon, "retry")
    note(daemon, id_, "act", "delivered")
    assert time.monotonic() - began > 0.3
    assert note(daemon, id_, "act", "delivered")["attempt"] == 1


def drop_and_dead_are_final(daemon):
    dropped, dead = act(daemon, "drop"), act(daemon, "dead")
    note(daemon, dropped, "act", "dropped")
    note(daemon, dead, "act", "dead")
    found = letter(daemon, dead)
    assert found["attempts"] == 1 and "nothing helps" in found["error"], found


def o_f1_what_hangs_is_ended(daemon):
    id_ = act(daemon, "sleep")
    note(daemon, id_, "act", "dead")
    assert "no answer within 1000 ms" in letter(daemon, id_)["error"], letter(daemon, id_)


def o_f1_a_crash_is_a_failed_attempt(daemon):
    for do, said in (("exit", "exit"), ("no memory", "signal 9")):
        id_ = act(daemon, do)
        note(daemon, id_, "act", "dead")
        found = letter(daemon, id_)
        assert said in found["error"] and found["attempts"] == 2, found
    note(daemon, act(daemon, "well"), "act", "delivered")


def garbage_is_a_failed_attempt(daemon):
    id_ = act(daemon, "garbage")
    note(daemon, id_, "act", "dead")
    assert "no frame" in letter(daemon, id_)["error"], letter(daemon, id_)
    note(daemon, act(daemon, "well"), "act", "delivered")


# ---- shell, http ----


def exit_codes_decide(daemon):
    ends = {0: "delivered", 65: "dead", 75: "dead", 1: "dead"}
    ids = {code: send(daemon, "/hooks/codes", str(code)) for code in ends}
    for code, what in ends.items():
        note(daemon, ids[code], "exits", what)
    attempts = {code: letter(daemon, ids[code])["attempts"] for code in (65, 75, 1)}
    assert attempts == {65: 1, 75: 2, 1: 2}, attempts
    assert "said to stderr" in letter(daemon, ids[1])["error"]


def times(id_):
    return [r["at"] for r in Peer.requests if r["id"] == id_]


def answers_of_a_peer_decide(daemon):
    well = send(daemon, "/hooks/posts", {"answers": [200]})
    busy = send(daemon, "/hooks/posts", {"answers": [503, 204]})
    wrong = send(daemon, "/hooks/posts", {"answers": [400]})
    broken = send(daemon, "/hooks/posts", {"answers": [500]})
    note(daemon, well, "forward", "delivered")
    note(daemon, busy, "forward", "delivered")
    note(daemon, wrong, "forward", "dead")
    note(daemon, broken, "forward", "dead")
    first, second = times(busy)
    assert second - first > 0.9, f"Retry-After: 1, tried again after {second - first:.3f} s"
    assert len(times(well)) == 1 and len(times(wrong)) == 1 and len(times(broken)) == 3
    assert "400" in letter(daemon, wrong)["error"], letter(daemon, wrong)
    assert letter(daemon, broken)["attempts"] == 3


# ---- looking and repairing ----


def replays(daemon):
    return next(one["replays"] for one in daemon.ask("status")["functions"] if one["name"] == "act")


def dead_letters_are_replayed_and_dropped(daemon):
    id_ = act(daemon, "dead")
    note(daemon, id_, "act", "dead")
    number = letter(daemon, id_)["dead"]
    before = replays(daemon)
    assert daemon.ask("dlq", "replay", number) == {"replayed": 1}
    assert replays(daemon) == before + 1
    again = wait(lambda: [one for one in daemon.ask("dlq", "ls")["dead"]
                          if one["id"] == id_ and one["dead"] != number and one["state"] == "dead"],
                 "the replay")
    assert daemon.ask("dlq", "drop", again[0]["dead"], "--yes") == {"dropped": 1}
    states = {one["dead"]: one["state"] for one in daemon.ask("dlq", "ls")["dead"]
              if one["id"] == id_}
    assert "dead" not in states.values(), states


def events_by_hand_are_as_good(daemon):
    answer = daemon.ask("emit", "readings", "--data", '{"do": "well"}')
    note(daemon, answer["ids"][0], "act", "delivered")


def a_trace_outlives_a_restart(daemon):
    id_, dead, waits = act(daemon, "well"), act(daemon, "dead"), act(daemon, "wait")
    note(daemon, id_, "act", "delivered")
    note(daemon, dead, "act", "dead")
    wait(lambda: [n for n in daemon.ask("trace", waits)["notes"] if "it may go" in str(n)], "Retry")
    daemon.stop()
    daemon.start()
    waiting = daemon.ask("trace", waits)["journal"][0]["functions"][0]
    assert waiting["state"] == "retrying" and waiting["attempts"] == 1, waiting
    assert waiting["due"] and "it may go" in waiting["error"], waiting
    (daemon.folder / "go").touch()
    trace = daemon.ask("trace", id_)
    assert trace["known"] and trace["journal"][0]["from"] == "readings", trace
    assert trace["journal"][0]["functions"] == [{"function": "act", "state": "delivered"}], trace
    assert "calls before the start of the daemon" in daemon.say("trace", id_)
    assert "calls before" not in daemon.say("trace", act(daemon, "well"))
    trace = daemon.ask("trace", dead)
    assert trace["dead"][0]["reason"] == "refused by the function", trace
    assert not daemon.ask("trace", "never-seen", code=1)["known"]


def settled(daemon):
    return wait(lambda: all(f["pending"] == 0 for f in daemon.ask("status")["functions"]),
                "nothing pending")


def every_delivery_is_counted_once(daemon):
    settled(daemon)
    for f in daemon.ask("status")["functions"]:
        ends = f["delivered"] + f["filtered"] + f["dropped"] + f["dead"] + f["expired"]
        assert f["drift"] == 0 and f["deliveries"] == ends > 0, f
    for row in daemon.ask("checkpoint", "ls")["checkpoints"]:
        assert row["settled_above"] == 0, row


# ---- start and end ----


def refused(program, config, state, *words):
    done = subprocess.run([program, "run", "-c", config, "--state", state, *words],
                          capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode != 0, done
    return done.returncode, done.stderr.strip()


def one_daemon_has_a_state(daemon):
    other = daemon.folder / "other.yaml"
    other.write_text(daemon.config.read_text().replace(f":{daemon.port}", ":0"))
    code, text = refused(daemon.program, other, daemon.folder / "state")
    assert code == 1 and len(text.splitlines()) == 1, (code, text)
    assert str(daemon.process.pid) in text, text
    note(daemon, act(daemon, "well"), "act", "delivered")


def a_port_in_use_is_said_in_one_line(daemon):
    code, text = refused(daemon.program, daemon.config, daemon.folder / "state2")
    said = [line for line in text.splitlines() if line.startswith("headrace: ")]
    assert code == 1 and len(said) == 1, (code, text)
    assert f"127.0.0.1:{daemon.port}" in said[0] and "in use" in said[0], text


def a_bad_configuration_is_refused_at_its_place(daemon):
    bad = daemon.folder / "bad.yaml"
    bad.write_text("triggers:\n  a:\n    webhook: { path: /a, dialect: jsn }\n")
    code, text = refused(daemon.program, bad, daemon.folder / "state3")
    assert code == 78 and "bad.yaml:3:" in text, (code, text)


def o_l1_running_calls_may_finish(daemon):
    """SIGTERM while an event runs: exit 0, and it is settled, or comes again."""
    id_ = send(daemon, "/hooks/posts", {"answers": [200]})
    daemon.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", daemon.port)) != 0, "the port is still open"
    daemon.start()
    wait(lambda: times(id_), "the event of the last moment")
    settled(daemon)


CLAIMS = [
    only_what_is_right_is_stored,
    an_unsigned_delivery_stores_nothing,
    o_s2_a_repeated_delivery_is_one_event,
    what_no_filter_wants_is_filtered,
    a_result_goes_down_the_chain,
    what_it_prints_is_found_by_event,
    o_f1_an_exception_is_tried_again,
    o_f1_exhausted_attempts_are_a_dead_letter,
    retry_waits_and_costs_no_attempt,
    drop_and_dead_are_final,
    o_f1_what_hangs_is_ended,
    o_f1_a_crash_is_a_failed_attempt,
    garbage_is_a_failed_attempt,
    exit_codes_decide,
    answers_of_a_peer_decide,
    dead_letters_are_replayed_and_dropped,
    events_by_hand_are_as_good,
    a_trace_outlives_a_restart,
    one_daemon_has_a_state,
    a_port_in_use_is_said_in_one_line,
    a_bad_configuration_is_refused_at_its_place,
    o_l1_running_calls_may_finish,
    every_delivery_is_counted_once,
]


def main():
    peer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    threading.Thread(target=peer.serve_forever, daemon=True).start()
    failed = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "act.py").write_text(HANDLER)
        config = CONFIG % {"secret": SECRET, "port": peer.server_address[1]}
        with Daemon(sys.argv[1], folder, config) as daemon:
            for claim in CLAIMS:
                try:
                    claim(daemon)
                    print(f"ok      {claim.__name__}", flush=True)
                except AssertionError as error:
                    failed.append(claim.__name__)
                    print(f"FAILED  {claim.__name__}: {error}", flush=True)
                    if daemon.process is None:
                        daemon.start()
            if failed:
                print("\n".join(daemon.lines[-40:]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each example runs as it stands in examples/, against what really feeds it.

Usage: docs_examples.py HEADRACE iot|uploads|nightly|github|everything|exec-c
"""
import hashlib
import hmac
import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
from daemon import Daemon, free_port, whole_lines  # noqa: E402
from minio import Minio  # noqa: E402

LIMIT_S = 60


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s"
        time.sleep(0.05)


class Example(Daemon):
    """The daemon on a copy of an example: handlers write beside their file."""

    def __init__(self, program, folder, name, environment=None):
        super().__init__(program, folder / "daemon", "", environment)
        self.environment["LISTEN"] = f"127.0.0.1:{self.port}"
        self.home = folder / name
        shutil.copytree(ROOT / "examples" / name, self.home)
        self.config = self.home / "headrace.yaml"

    def trigger(self, name):
        return next(t for t in self.ask("status")["triggers"] if t["name"] == name)

    def function(self, name):
        return next(f for f in self.ask("status")["functions"] if f["name"] == name)

    def check_totals(self):
        totals = self.ask("status")["totals"]
        parts = ("delivered", "filtered", "dropped", "dead", "expired", "pending")
        assert totals["deliveries"] == sum(totals[part] for part in parts), totals
        assert totals["dead"] + totals["expired"] + totals["dropped"] == 0, totals


class Service:
    """A script of tests/services: start DIR PORT, stop DIR."""

    def __init__(self, script, folder):
        self.script = str(ROOT / "tests/services" / script)
        self.folder = str(folder)
        self.port = free_port()

    def __enter__(self):
        subprocess.run([self.script, "start", self.folder, str(self.port)], check=True)
        return self

    def __exit__(self, *error):
        subprocess.run([self.script, "stop", self.folder], check=True)


def publish(port, device, celsius):
    subprocess.run(
        ["mosquitto_pub", "-p", str(port), "-V", "5", "-q", "1", "-m",
         json.dumps({"celsius": celsius}), "-t", f"site/berlin/device/{device}/temp"],
        check=True, timeout=LIMIT_S)


def json_lines(path):
    """The values of a file of lines, each whole one."""
    return [json.loads(line) for line in whole_lines(path) if line]


def iot(program, folder):
    with Service("mosquitto.sh", folder / "mosquitto") as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        with Example(program, folder, "iot", {"MQTT_URL": url}) as daemon:
            wait_until(lambda: daemon.trigger("temps")["state"] == "up", "connected")
            for celsius in (21, 31.5, 30, 44):
                publish(broker.port, "t-17", celsius)
            alerts = daemon.home / "alerts.txt"
            wait_until(lambda: daemon.function("tell")["delivered"] == 2, "two alerts told")
            text = alerts.read_text()
            assert text.index("t-17 at berlin: 31.5 °C") < text.index("t-17 at berlin: 44.0 °C"), text
            wait_until(lambda: daemon.function("hot")["filtered"] == 2, "the others are too cold")
            lines = daemon.ask("logs", "hot")["lines"]
            assert any("celsius" in line["text"] for line in lines), lines
            daemon.check_totals()


def uploads(program, folder):
    daemon = Example(program, folder, "uploads", {"UPLOADS_TOKEN": "tok"})
    with daemon, Minio(folder / "minio", daemon.url("/hooks/uploads"), "Bearer tok") as minio:
        minio.s3.create_bucket("photos")
        minio.s3.notify("photos")
        minio.s3.put("photos", "cat.jpg", b"not quite a picture")
        minio.s3.put("photos", "notes.txt", b"text")
        minio.s3.put("photos", "empty.jpeg", b"")
        wait_until(lambda: daemon.function("thumbnail")["dead"] == 1, "the empty one is given up")
        wait_until(lambda: daemon.function("thumbnail")["delivered"] == 1, "the picture is done")
        wait_until(lambda: daemon.function("thumbnail")["filtered"] == 1, "the text is passed over")
        dead = daemon.ask("dlq", "ls")["dead"]
        assert [letter["error"] for letter in dead] == ["an empty picture"], dead
        lines = [line["text"] for line in daemon.ask("logs", "thumbnail")["lines"]]
        assert "thumbnail of cat.jpg of 19 bytes" in lines, lines


def nightly(program, folder):
    with Example(program, folder, "nightly", {"AT": "* * * * * *"}) as daemon:
        wait_until(lambda: daemon.function("report")["delivered"] >= 2, "two ticks handled")
        lines = [line["text"] for line in daemon.ask("logs", "report")["lines"]]
        assert any(line.startswith("report for 2") for line in lines), lines
        daemon.stop()
        daemon.environment.pop("AT")
        daemon.start()  # at three in the morning now: only an event by hand comes
        before = daemon.function("report")["delivered"]
        daemon.ask("emit", "nightly")
        wait_until(lambda: daemon.function("report")["delivered"] == before + 1, "the one by hand")
        daemon.check_totals()


class Chat(http.server.ThreadingHTTPServer):
    """Takes what Slack and Feishu would be sent."""

    def __init__(self):
        told = self.told = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told.setdefault(self.path, []).append(json.loads(body))
                answer = b'{"code":0,"msg":"success"}' if self.path == "/feishu" else b"ok"
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *words):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, daemon=True).start()


def github(program, folder):
    chat = Chat()
    address = f"http://127.0.0.1:{chat.server_port}"
    environment = {"GITHUB_SECRET": "octocat", "SLACK_WEBHOOK": address + "/slack",
                   "FEISHU_WEBHOOK": address + "/feishu"}
    push = {"ref": "refs/heads/main", "repository": {"full_name": "octo/hello"},
            "pusher": {"name": "mona"}, "head_commit": {"message": "Grüße, \"Welt\""}}

    def deliver(kind, number, secret=b"octocat"):
        body = json.dumps(push).encode()
        sign = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(
            daemon.url("/hooks/github"), body,
            {"Content-Type": "application/json", "X-GitHub-Event": kind,
             "X-GitHub-Delivery": f"72d3162e-cc78-11e3-81ab-{number:012d}",
             "X-Hub-Signature-256": sign})
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    with Example(program, folder, "github", environment) as daemon:
        assert deliver("push", 1) // 100 == 2
        assert deliver("push", 1) // 100 == 2, "a repeated delivery is acknowledged"
        assert deliver("star", 2) // 100 == 2
        assert deliver("push", 3, b"mallory") == 401
        text = 'mona pushed to octo/hello: Grüße, "Welt"'
        for name in ("slack", "feishu"):
            wait_until(lambda name=name: daemon.function(name)["delivered"] == 1, f"told to {name}")
            wait_until(lambda name=name: daemon.function(name)["filtered"] == 1, "a star is no push")
        assert chat.told == {"/slack": [{"text": text}],
                             "/feishu": [{"msg_type": "text", "content": {"text": text}}]}, chat.told
        daemon.check_totals()
    chat.shutdown()


def produce(port, orders):
    lines = "".join(f"{order['customer']}:{json.dumps(order)}\n" for order in orders)
    subprocess.run(["kcat", "-P", "-b", f"127.0.0.1:{port}", "-t", "orders", "-K:",
                    "-X", "acks=all"], input=lines, text=True, check=True, timeout=LIMIT_S)


def everything(program, folder):
    """All four sources at once, through a kill -9 in the middle."""
    with Service("mosquitto.sh", folder / "mosquitto") as mqtt, \
            Service("kafka.sh", folder / "kafka") as kafka:
        subprocess.run([kafka.script, "topic", str(kafka.port), "orders", "2"], check=True)
        environment = {"MQTT_URL": f"mqtt://127.0.0.1:{mqtt.port}", "UPLOADS_TOKEN": "tok",
                       "KAFKA": f"127.0.0.1:{kafka.port}", "AT": "* * * * * *"}
        daemon = Example(program, folder, "everything", environment)
        with daemon, Minio(folder / "minio", daemon.url("/hooks/uploads"), "Bearer tok") as minio:
            minio.s3.create_bucket("photos")
            minio.s3.notify("photos")
            for name in ("temps", "orders"):
                wait_until(lambda name=name: daemon.trigger(name)["state"] == "up", f"{name} is up")
            expected = set()
            for n in range(20):
                publish(mqtt.port, f"t-{n}", 20 + n)
                produce(kafka.port, [{"order": f"o-{n}", "amount": 10 * n, "customer": f"c{n % 3}"}])
                minio.s3.put("photos", f"{n}.{'txt' if n % 4 == 0 else 'jpg'}", b"1")
                expected |= {("hot", f"berlin/t-{n}")} if 20 + n > 30 else set()
                expected |= {("bill", f"o-{n}")} if 10 * n >= 100 else set()
                expected |= {("thumbnail", f"photos/{n}.jpg")} if n % 4 != 0 else set()
                if n == 9:
                    daemon.kill9()
                if n == 12:
                    daemon.start()

            def audited():
                return {(line["what"], line["of"]) for line in json_lines(daemon.home / "audit.jsonl")}

            wait_until(lambda: expected <= audited(), f"all of {len(expected)} are audited")
            wait_until(lambda: sum(what == "report" for what, _ in audited()) >= 3, "three ticks")
            others = {pair for pair in audited() - expected if pair[0] != "report"}
            assert not others, others
            status = daemon.ask("status")
            assert all(trigger["received"] > 0 for trigger in status["triggers"]), status
            assert all(function["delivered"] > 0 for function in status["functions"]), status
            daemon.check_totals()


def exec_c(program, folder):
    daemon = Example(program, folder, "exec-c")
    subprocess.run(["cc", "-o", daemon.home / "doubler", daemon.home / "doubler.c"], check=True)
    subprocess.run([program, "check", "-c", str(daemon.config)], check=True)
    with daemon:
        for number in ("21", "-4", '"x"'):
            request = urllib.request.Request(daemon.url("/numbers"), number.encode(),
                                             {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                assert answer.status // 100 == 2
        wait_until(lambda: daemon.function("tell")["delivered"] == 2, "two numbers told")
        wait_until(lambda: daemon.function("double")["dead"] == 1, "the word is given up")
        lines = sorted(line["text"] for line in daemon.ask("logs", "tell")["lines"])
        assert lines == ["twice that is -8", "twice that is 42"], lines
        dead = daemon.ask("dlq", "ls")["dead"]
        assert [letter["error"] for letter in dead] == ["the data is no whole number"], dead


def main():
    program, name = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        {"iot": iot, "uploads": uploads, "nightly": nightly, "github": github,
         "everything": everything, "exec-c": exec_c}[name](program, pathlib.Path(folder))
    print(f"ok the example {name} runs", flush=True)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""`./dev bench peers`: webhooks against JetStream, both synced before the answer; MQTT from a
session that was filled while nobody listened, against Node-RED, which stores nothing."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import bench_peers
from bench import BUILD, HANDLER, HEADRACE, ROOT, Stats, cpu_s, wait_handled
from bench_peers import LIMIT_S, Contest, Peer, PeerError, Run, measure
from daemon import Daemon, free_port

MOSQUITTO = ROOT / "tests" / "services" / "mosquitto.sh"
MQTT_TOOL = BUILD / "tests" / "bench" / "mqtt_peer"
CONNECTIONS = 64
TOPIC = "site/+/device/+/temp"

WEBHOOK = """
settings:
  listen: 127.0.0.1:0
triggers:
  readings:
    webhook: { path: /hooks/readings, dialect: json, insecure: true }
functions:
  count:
    from: readings
    native: %(handler)s
    isolation: none
    order: none
    batch: { size: 1024 }
    env: { STATS: %(stats)s }
"""
WRK = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"device":"d-1","temp":40.5,"pad":"' .. string.rep("x", 263) .. '"}'
"""
NATS = """
listen: "127.0.0.1:%(port)d"
jetstream { store_dir: "%(folder)s/store", sync_interval: always }
"""
MQTT = """
triggers:
  temps:
    mqtt:
      url: mqtt://127.0.0.1:%(port)d
      topic: site/+site/device/+device/temp
      client_id: %(id)s
functions:
  count:
    from: temps
    native: %(handler)s
    isolation: none
    order: none
    batch: { size: 1024 }
    env: { STATS: %(stats)s }
"""
RED_SETTINGS = """
let seen = 0, first;
module.exports = {
    uiHost: "127.0.0.1", uiPort: %(ui)d, httpAdminRoot: false, httpNodeRoot: false,
    flowFile: "flows.json", credentialSecret: "bench", telemetry: { enabled: false },
    logging: { console: { level: "warn" } },
    functionGlobalContext: { handle: () => {
        if (seen++ === 0) first = process.hrtime.bigint();
        if (seen === %(count)d) console.log(`${first} ${process.hrtime.bigint()}`);
    } },
};
"""


class Folders:
    """A new folder for each run."""

    def __init__(self, folder):
        self.folder, self.runs = pathlib.Path(folder), 0

    def new(self, name):
        self.runs += 1
        folder = self.folder / f"{name}{self.runs}"
        folder.mkdir()
        return folder


class Load(Run):
    """A server under closed connections for a time: there is no first and no last."""

    def __init__(self, count, rate, pid, cpu_before):
        self.rate = self.flow = rate
        self.cpu = (cpu_s(pid) - cpu_before) * 1e6 / count
        self.rss = bench_peers.peak_mib(pid)


class Webhook(Folders):
    def __init__(self, folder, seconds):
        super().__init__(folder)
        self.seconds, self.nats = seconds, None
        self.script = self.folder / "post.lua"
        self.script.write_text(WRK)

    def ours(self):
        folder = self.new("webhook")
        stats = Stats(folder / "stats")
        config = WEBHOOK % {"handler": HANDLER, "stats": stats.path}
        with Daemon(HEADRACE, folder, config) as daemon:
            pid = daemon.process.pid
            before = cpu_s(pid)
            said = subprocess.run(
                ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{self.seconds}s", "--timeout", "30s", "-s",
                 self.script, daemon.url("/hooks/readings")], check=True, stdout=subprocess.PIPE,
                text=True, timeout=self.seconds + 60).stdout
            assert "Non-2xx" not in said and "Socket errors" not in said, said
            count = int(re.search(r"(\d+) requests in", said)[1])
            wait_handled(daemon, stats, count, 60)  # what wrk no longer waited for may be more
            run = Load(count, float(re.search(r"Requests/sec:\s*([\d.]+)", said)[1]), pid, before)
            handled = stats.read()["handled"]
        assert count <= handled <= count + CONNECTIONS, (count, handled)
        shutil.rmtree(folder)
        return run

    def jetstream(self):
        folder, port = self.new("nats"), free_port()
        (folder / "nats.conf").write_text(NATS % {"port": port, "folder": folder})
        with Peer("nats-server", [self.nats / "nats-server", "-c", folder / "nats.conf"],
                  folder) as server:
            wait_log(server, "Server is ready")
            before = cpu_s(server.pid)
            words = [self.nats / "nats_peer", port, CONNECTIONS, self.seconds]
            done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, text=True,
                                  timeout=self.seconds + 120)
            if done.returncode != 0:
                server.fail("did not take all")
            count, seconds, stored = map(float, done.stdout.split())
            if count != stored:
                raise PeerError(f"{count:.0f} were acknowledged, {stored:.0f} stored")
            run = Load(count, count / seconds, server.pid, before)
        shutil.rmtree(folder)
        return run


def wait_log(peer, text, limit_s=60):
    end = time.monotonic() + limit_s
    while text not in peer.log.read_text(errors="replace"):
        if not peer.is_alive() or time.monotonic() > end:
            peer.fail("did not start")
        time.sleep(0.02)


class Mqtt(Folders):
    """A mosquitto, and each side's session at it, which is gone after its run."""

    def __init__(self, folder, count):
        super().__init__(folder)
        self.count, self.port, self.red = count, free_port(), None
        self.broker = self.folder / "mosquitto"

    def __enter__(self):
        subprocess.run([MOSQUITTO, "start", self.broker, str(self.port)], check=True,
                       stdout=sys.stderr)
        return self

    def __exit__(self, *error):
        subprocess.run([MOSQUITTO, "stop", self.broker], check=False)

    def load(self):
        subprocess.run([MQTT_TOOL, "load", str(self.port), str(self.count)], check=True,
                       stdout=subprocess.DEVNULL, timeout=LIMIT_S)

    def forget(self, client):
        """A client that wants no session takes its old one away."""
        subprocess.run(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-i", client,
                        "-t", "nothing", "-E"], check=True, timeout=60)

    def ours(self):
        folder = self.new("mqtt")
        stats = Stats(folder / "stats")
        daemon = Daemon(HEADRACE, folder, MQTT % {"port": self.port, "id": folder.name,
                                                  "handler": HANDLER, "stats": stats.path})
        with daemon:
            daemon.wait_line(r"temps: mqtt is up")
        self.load()
        begin_ns = time.monotonic_ns()
        with daemon:
            wait_handled(daemon, stats, self.count, LIMIT_S)
            seen = stats.read()
            run = Run(self.count, daemon.process.pid, begin_ns, seen["first"], seen["last"])
        assert stats.read()["handled"] == self.count, stats.read()
        self.forget(folder.name)
        shutil.rmtree(folder)
        return run

    def red_folder(self):
        folder = self.new("red")
        broker = {"id": "broker", "type": "mqtt-broker", "name": "", "broker": "127.0.0.1",
                  "port": str(self.port), "clientid": folder.name, "autoConnect": True,
                  "usetls": False, "protocolVersion": "4", "keepalive": "60",
                  "cleansession": False, "autoUnsubscribe": False}
        source = {"id": "in", "type": "mqtt in", "z": "flow", "topic": TOPIC, "qos": "1",
                  "datatype": "buffer", "broker": "broker", "nl": False, "rap": True, "rh": 0,
                  "inputs": 0, "x": 100, "y": 100, "wires": [["count"]]}
        handler = {"id": "count", "type": "function", "z": "flow", "name": "",
                   "func": "global.get('handle')();\nreturn null;", "outputs": 0, "timeout": 0,
                   "noerr": 0, "initialize": "", "finalize": "", "libs": [], "x": 300, "y": 100,
                   "wires": []}
        (folder / "flows.json").write_text(json.dumps(
            [{"id": "flow", "type": "tab", "label": "bench"}, broker, source, handler]))
        (folder / "settings.js").write_text(RED_SETTINGS % {"ui": free_port(),
                                                            "count": self.count})
        return folder

    def node_red(self):
        folder = self.red_folder()
        words = [*self.red, "--userDir", folder, "--settings", folder / "settings.js"]
        with Peer("node-red", words, folder) as peer:
            self.wait_subscribed(peer, folder.name)
            peer.kill()  # as a crash, so that it does not unsubscribe
        self.load()
        with Peer("node-red", words, folder) as peer:
            first, last = peer.wait_done()
            run = Run(self.count, peer.pid, peer.begin_ns, first, last)
        self.forget(folder.name)
        shutil.rmtree(folder)
        return run

    def wait_subscribed(self, peer, client):
        end, log = time.monotonic() + 60, self.broker / "log"
        while f": {client} 1 {TOPIC}" not in log.read_text(errors="replace"):
            if not peer.is_alive() or time.monotonic() > end:
                peer.fail("did not subscribe")
            time.sleep(0.02)


def run_webhook(folder, pairs, seconds):
    webhook, error = Webhook(folder, seconds), None
    try:
        webhook.nats = pathlib.Path(bench_peers.install("nats"))
    except PeerError as reason:
        error = str(reason)
    return measure("webhook", pairs, webhook.ours,
                   [Contest("NATS JetStream, sync always", 10, webhook.jetstream, error)])


def run_mqtt(folder, pairs, count):
    mqtt, error = Mqtt(folder, count), None
    try:
        mqtt.red = bench_peers.install("node-red").split()
    except PeerError as reason:
        error = str(reason)
    with mqtt:
        return measure("mqtt", pairs, mqtt.ours, [Contest("Node-RED", 1.5, mqtt.node_red, error)])

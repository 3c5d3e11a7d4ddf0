# SPDX-License-Identifier: Apache-2.0
"""The inputs of tests/prove that come over a real broker: MQTT by mosquitto, Kafka.

The brokers outlive every kill; what they acknowledged to the producer counts as acknowledged. A
producer keeps a backlog of acknowledged and unhandled events, so that each kill meets some.
"""
import json
import pathlib
import random
import socket
import struct
import subprocess
import sys
import time

from daemon import free_port
from prove_digest import digest
from prove_inputs import Function, Input, Sent

SERVICES = pathlib.Path(__file__).resolve().parent.parent / "services"
BACKLOG = 400  # events acknowledged and not yet handled


class Streamed(Input):
    """Events with an order of their own for each key; the handler takes a millisecond each."""

    keys = 16

    def __init__(self, folder, seed):
        super().__init__()
        self.folder = folder
        self.chance = random.Random(f"{seed}/{self.name}")
        self.made = 0
        self.handled = None

    def next_event(self):
        """id, key and payload of the next event."""
        self.made += 1
        roll = self.chance.random()
        fate = "retry" if roll < 1 / 200 else "slow" if roll < 1 / 100 else "ok"
        key, id_ = f"k{self.chance.randrange(self.keys)}", f"{self.name}-{self.made}"
        body = json.dumps({"id": id_, "key": key, "fate": fate,
                           "pad": "é" * self.chance.randrange(200)}, ensure_ascii=False)
        self.sent[id_] = Sent(self.made, digest(body.encode()), fate)
        return id_, key, body

    def has_room(self):
        return len(self.acked) - self.handled.count(self.functions[0].name) < BACKLOG

    def watch(self, handled):
        self.handled = handled


class Telemetry(Streamed):
    """MQTT 3.1.1, QoS 1, over a real mosquitto; acknowledged is what it sent a PUBACK for."""

    name = "telemetry"
    window = 200
    functions = [Function("take-telemetry", "telemetry", "streamed",
                          "    order: key\n    batch: { size: 32 }\n")]

    def prepare(self):
        self.port = free_port()
        self.broker = self.folder / "mosquitto"
        subprocess.run([SERVICES / "mosquitto.sh", "start", self.broker, str(self.port)],
                       check=True, stdout=sys.stderr)
        self.trigger = (f"    mqtt: {{ url: mqtt://127.0.0.1:{self.port}, topic: prove/+place, "
                        f"qos: 1, window: {self.window} }}\n")

    def start(self, daemon, stopping):
        daemon.wait_line("telemetry: mqtt is up")  # its session is there and keeps what comes
        self.go(self._produce, stopping)

    def _produce(self, stopping):
        broker = socket.create_connection(("127.0.0.1", self.port), 30)
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = b"prover"
        broker.sendall(b"\x10" + bytes([12 + len(client)]) + b"\x00\x04MQTT\x04\x02\x00\x00"
                       + struct.pack(">H", len(client)) + client)
        assert broker.recv(4) == b"\x20\x02\x00\x00", "CONNACK"
        buffer, under_way, number = b"", {}, 0
        while not stopping.is_set() or under_way:
            while not stopping.is_set() and len(under_way) < 50 and self.has_room():
                number = number % 65535 + 1
                id_, key, body = self.next_event()
                under_way[number] = id_
                topic, payload = f"prove/{key}".encode(), body.encode()
                rest = struct.pack(">H", len(topic)) + topic + struct.pack(">H", number) + payload
                size, length = len(rest), b""
                while True:
                    length += bytes([size % 128 | (0x80 if size > 127 else 0)])
                    size //= 128
                    if size == 0:
                        break
                broker.sendall(b"\x32" + length + rest)
            if not under_way:
                time.sleep(0.002)  # a full backlog: the handler has to come along
                continue
            more = broker.recv(4096)
            assert more, "mosquitto closed the connection"
            buffer += more
            while len(buffer) >= 4:
                assert buffer[0] == 0x40, f"not a PUBACK: {buffer[:4].hex()}"
                self.acked.append(under_way.pop(struct.unpack(">H", buffer[2:4])[0]))
                buffer = buffer[4:]
        broker.sendall(b"\xe0\x00")
        broker.close()

    def end(self):
        subprocess.run([SERVICES / "mosquitto.sh", "stop", self.broker], check=False)


class Records(Streamed):
    """Kafka, a real broker with four partitions; acknowledged is a delivery report, acks=all."""

    name = "records"
    is_pull = True
    functions = [Function("take-records", "records", "streamed",
                          "    order: key\n    batch: { size: 32 }\n")]

    def __init__(self, folder, seed, feed):
        super().__init__(folder, seed)
        self.feed = feed

    def prepare(self):
        self.port = free_port()
        self.broker = self.folder / "kafka"
        script = SERVICES / "kafka.sh"
        subprocess.run([script, "start", self.broker, str(self.port)], check=True,
                       stdout=sys.stderr)
        subprocess.run([script, "topic", str(self.port), "prove", "4"], check=True,
                       stdout=sys.stderr)
        self.trigger = (f"    kafka: {{ brokers: \"127.0.0.1:{self.port}\", topics: prove, "
                        "start: earliest }\n")

    def start(self, daemon, stopping):
        feed = subprocess.Popen([self.feed, f"127.0.0.1:{self.port}", "prove"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def write():
            while not stopping.is_set():
                if self.has_room() and self.made - len(self.acked) < 100:
                    id_, key, body = self.next_event()
                    feed.stdin.write(f"{id_}\t{key}\t{body}\n")
                else:
                    feed.stdin.flush()
                    time.sleep(0.002)
            feed.stdin.close()

        def read():
            for line in feed.stdout:
                self.acked.append(line.strip())
            assert feed.wait() == 0, "the Kafka producer failed"

        self.go(write)
        self.go(read)

    def end(self):
        subprocess.run([SERVICES / "kafka.sh", "stop", self.broker], check=False)

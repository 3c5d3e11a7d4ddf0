# SPDX-License-Identifier: Apache-2.0
"""A broker of one MQTT client (3.1.1 or 5) that does what the test says, packet by packet.

    broker = Broker()
    peer = broker.accept(session_present=True)   # CONNECT, CONNACK, SUBSCRIBE, SUBACK
    peer.publish(1, 2, b"payload"); peer.expect(PUBREC, 1); peer.send(PUBREL, 1)

Nothing happens by itself but the answers to PINGREQ. Packets: MQTT 3.1.1 and 5.0, OASIS.
"""
import socket
import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK = range(1, 10)
PINGREQ, PINGRESP, DISCONNECT = range(12, 15)
LIMIT_S = 60


def packet(kind, flags, rest):
    length, size = b"", len(rest)
    while True:
        length += bytes([size % 128 | (128 if size > 127 else 0)])
        size //= 128
        if size == 0:
            return bytes([kind << 4 | flags]) + length + rest


def text(value):
    return struct.pack(">H", len(value)) + value


class Closed(Exception):
    """The client has gone."""


class Peer:
    """One connection of the client."""

    def __init__(self, connection, session_present):
        self.connection = connection
        self.connection.settimeout(LIMIT_S)
        self.buffer = b""
        self.asked = []  # the options of each filter it subscribed
        _, _, rest = self._read()
        assert rest[:6] == b"\x00\x04MQTT", rest
        self.version = rest[6]
        is_clean = rest[7] & 2
        flags = bytes([1 if session_present and not is_clean else 0, 0])
        self._write(packet(CONNACK, 0, flags + (b"\x00" if self.version == 5 else b"")))

    def subscribed(self):
        """Waits for a SUBSCRIBE and grants what it asks for."""
        kind, _, rest = self._next()
        assert kind == SUBSCRIBE, kind
        at = 2
        if self.version == 5:
            assert rest[2] < 128
            at = 3 + rest[2]
        while at < len(rest):
            at += 2 + struct.unpack(">H", rest[at:at + 2])[0]
            self.asked.append(rest[at])
            at += 1
        granted = bytes(option & 3 for option in self.asked)
        self._write(packet(SUBACK, 0, rest[:2] + (b"\x00" if self.version == 5 else b"") + granted))

    def publish(self, number, qos, payload, is_again=False, topic=b"t/a"):
        rest = text(topic) + (struct.pack(">H", number) if qos > 0 else b"")
        rest += (b"\x00" if self.version == 5 else b"") + payload
        self._write(packet(PUBLISH, (8 if is_again else 0) | qos << 1, rest))

    def send(self, kind, number):
        self._write(packet(kind, 2 if kind == PUBREL else 0, struct.pack(">H", number)))

    def expect(self, kind, number):
        """The next packet must be this one."""
        got, _, rest = self._next()
        assert (got, struct.unpack(">H", rest[:2])[0]) == (kind, number), (got, rest)

    def close(self):
        self.connection.close()

    def _next(self):
        while True:
            kind, flags, rest = self._read()
            if kind != PINGREQ:
                return kind, flags, rest
            self._write(packet(PINGRESP, 0, b""))

    def _write(self, data):
        self.connection.sendall(data)

    def _take(self, size):
        while len(self.buffer) < size:
            more = self.connection.recv(65536)
            if not more:
                raise Closed()
            self.buffer += more
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _read(self):
        first, length, shift = self._take(1)[0], 0, 0
        while True:
            more = self._take(1)[0]
            length |= (more & 127) << shift
            shift += 7
            if more < 128:
                return first >> 4, first & 15, self._take(length)


class Broker:
    """Listens on a free port of 127.0.0.1."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LIMIT_S)
        self.port = self.listener.getsockname()[1]

    def accept(self, session_present=False, subscribes=True):
        """The client's next connection. The first of a process subscribes, whatever is present."""
        connection, _ = self.listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(connection, session_present)
        if subscribes:
            peer.subscribed()
        return peer

    def close(self):
        self.listener.close()

# SPDX-License-Identifier: Apache-2.0
"""Slow connections, as many as one process may have: `python3 prove_slow.py` is that process.

usage: prove_slow.py PORT PATH COUNT SOURCE EVERY_S AGAIN_S
SOURCE is the loopback address they come from. A quarter sends a byte of a header line every EVERY_S
seconds, one a byte of a body, one nothing, one nothing after an answer. With AGAIN_S > 0 each that is closed comes again
after so long; else it ends when all are closed. Prints {"open", "made", "closed", "answers"} twice
a second, and last.
"""
import collections
import heapq
import json
import select
import socket
import sys
import time

HEADS = (b"POST %s HTTP/1.1\r\nHost: a\r\nX-Slow: ",
         b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"",
         b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
BYTES = (b"a", b"a", b"", b"")


class Crowd:
    def __init__(self, port, path, source, every_s, again_s):
        self.to, self.path, self.source = ("127.0.0.1", port), path.encode(), source
        self.every_s, self.again_s = every_s, again_s
        self.poll = select.epoll()
        self.sockets = {}
        self.due = []  # (when, number, fd): a byte; fd -1: a connection
        self.made = self.closed = 0
        self.answers = collections.Counter()

    def make(self):
        one = socket.socket()
        try:
            one.bind((self.source, 0))
            one.connect(self.to)
        except OSError as error:
            self.answers[f"no connection: {error}"] += 1
            one.close()
            return
        one.setblocking(False)
        self.made += 1
        kind = self.made % len(HEADS)
        self.sockets[one.fileno()] = (one, self.made, kind)
        self.poll.register(one.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
        self.send(one, HEADS[kind].replace(b"%s", self.path))
        heapq.heappush(self.due, (time.monotonic() + self.every_s, self.made, one.fileno()))

    @staticmethod
    def send(one, data):
        try:
            if data:
                one.send(data)
        except OSError:
            pass  # its end is read

    def read(self, fd):
        one, _, _ = self.sockets[fd]
        try:
            data = one.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.answers[data.split(b"\r\n")[0].decode("latin-1")] += 1
            return
        del self.sockets[fd]
        one.close()
        self.closed += 1
        if self.again_s > 0:
            heapq.heappush(self.due, (time.monotonic() + self.again_s, 0, -1))

    def drip(self):
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            _, number, fd = heapq.heappop(self.due)
            if fd < 0:
                self.make()
            elif fd in self.sockets and self.sockets[fd][1] == number:
                one, _, kind = self.sockets[fd]
                self.send(one, BYTES[kind])
                heapq.heappush(self.due, (now + self.every_s, number, fd))

    def tell(self):
        print(json.dumps({"open": len(self.sockets), "made": self.made, "closed": self.closed,
                          "answers": self.answers}), flush=True)

    def turn(self):
        for fd, _ in self.poll.poll(0.1):
            if fd in self.sockets:
                self.read(fd)
        self.drip()

    def run(self, count):
        told = 0.0
        while count > 0 or self.sockets or self.again_s > 0:
            for _ in range(min(count, 100)):
                self.make()
                count -= 1
            self.turn()
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                self.tell()
        self.tell()


if __name__ == "__main__":
    Crowd(int(sys.argv[1]), sys.argv[2], sys.argv[4], float(sys.argv[5]),
          float(sys.argv[6])).run(int(sys.argv[3]))

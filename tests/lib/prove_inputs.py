# SPDX-License-Identifier: Apache-2.0
"""The inputs of tests/prove: a trigger, its functions, producers that write down what they sent.

An input has name, trigger and functions for the configuration; prepare() before the daemon is
there, start(daemon, stopping) the producers, join() them, close() when the load is over, end()
when the run is. sent holds all that was ever tried, acked what the daemon acknowledged.
"""
import collections
import datetime
import json
import random
import socket
import threading
import time

from prove_digest import canonical, digest

Function = collections.namedtuple("Function", "name take handler more")
Sent = collections.namedtuple("Sent", "place hash fate")
ANSWER_S = 30
START_S = 5  # from a daemon's first tick to the moment at which it is known to run


class Connection:
    """HTTP keep-alive on one socket; connects again for as long as it takes."""

    def __init__(self, port):
        self.port = port
        self.socket = None
        self.buffer = b""

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket, self.buffer = None, b""

    def post(self, path, body):
        """The status; 0: no answer came, nobody knows whether it arrived."""
        try:
            self.send(path, body)
            return self.answer()
        except OSError:
            self.close()
            return 0

    def send(self, path, body):
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), ANSWER_S)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = (f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n")
        self.socket.sendall(head.encode() + body)

    def answer(self):
        """The status of what was sent."""
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end >= 0:
                head = self.buffer[:end].decode("latin-1").lower()
                size = 0
                for line in head.split("\r\n"):
                    if line.startswith("content-length:"):
                        size = int(line.split(":")[1])
                if len(self.buffer) >= end + 4 + size:
                    self.buffer = self.buffer[end + 4 + size:]
                    if "connection: close" in head:
                        self.close()
                    return int(head.split(" ")[1])
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionResetError
            self.buffer += more


class Input:
    unordered = frozenset()  # functions that promise no order
    endless = False          # its triggers go on when the producers end
    is_pull = False          # its log is not ours: what is received again is no new event
    window = 0               # what its source sends again after an interruption, durable or not
    offset_s = 0.0           # how long another owner of it does not hear what is done

    def __init__(self):
        self.sent = {}
        self.acked = []  # append is atomic between threads
        self.threads = []
        self.failures = []  # what producers died of: the judge wants none
        self.took_ms = collections.Counter()  # posts, by how long their answer took
        self._seen = 0
        self._open = set()

    def prepare(self):
        pass

    def watch(self, handled):
        """Who handled what, read all the time while it runs."""

    def start(self, daemon, stopping):
        pass

    def go(self, work, *args):
        """Begins a producer."""
        def guarded():
            try:
                work(*args)
            except Exception as error:  # whatever it is, what it did not send is not proven
                self.failures.append(f"{type(error).__name__}: {str(error)[:500]}")

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self.threads.append(thread)

    def join(self):
        for thread in self.threads:
            thread.join()

    def close(self, handled, began, ended):
        pass

    def end(self):
        pass

    def acked_ids(self):
        return self.acked

    def own_id(self, event_id):
        """The prover's id of an event that the daemon calls so."""
        return event_id

    def owed(self, handled):
        """How many events the daemon must have counted, least and most."""
        return len(self.acked), len(self.sent) + handled.interruptions * self.window

    def sent_hash(self, id_):
        one = self.sent.get(id_)
        return None if one is None else one.hash

    def place(self, id_):
        one = self.sent.get(id_)
        return None if one is None else one.place

    def may_die(self, id_):
        return self.sent[id_].fate == "dead"

    def waiting(self, handled):
        """How many acknowledged events have not come through all functions."""
        count = len(self.acked)
        for id_ in self.acked[self._seen:count]:
            if self.sent[id_].fate != "dead":
                self._open.add(id_)
        self._seen = count
        self._open = {id_ for id_ in self._open
                      if not all(handled.has(f.name, id_) for f in self.functions)}
        return len(self._open)


class Posted(Input):
    """Bodies by POST: each thread has its keys and sends their events in order, each until it is
    acknowledged, as senders that retry do."""

    count = 1
    backlog = 8000  # acknowledged and not handled: more would only take long to drain

    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def watch(self, handled):
        self.handled = handled

    def has_room(self):
        return len(self.acked) - self.handled.count(self.functions[-1].name) < self.backlog

    def start(self, daemon, stopping):
        for number in range(self.count):
            self.go(self._produce, daemon, stopping, number)

    def _produce(self, daemon, stopping, number):
        chance = random.Random(f"{self.seed}/{self.name}/{number}")
        connection = Connection(daemon.port)
        place = 0
        while not stopping.is_set():
            if not self.has_room():
                time.sleep(0.005)
                continue
            place += 1
            ids, body = self.make(chance, number, place)
            while True:
                asked = time.monotonic()
                status = connection.post(self.path, body)
                if status == 202:
                    self.took_ms[int((time.monotonic() - asked) * 1000)] += 1
                    self.acked.extend(ids)
                    break
                if status not in (0, 503):
                    raise AssertionError(f"{self.path} answered {status} to {body[:200]}")
                time.sleep(0.02)
        connection.close()


class Orders(Posted):
    """The json webhook; every now and then an event that is slow, fails once, or for good."""

    name = "orders"
    path = "/hooks/orders"
    count = 12
    trigger = """    webhook: { path: /hooks/orders, dialect: json, insecure: true, id: data.id }
"""
    functions = [Function("take-orders", "orders", "order",
                          "    order: key\n    key: data.key\n    workers: 2\n"
                          "    batch: { size: 64 }\n")]

    def make(self, chance, number, place):
        roll = chance.random()
        fate = ("dead" if roll < 1 / 2000 else "retry" if roll < 1 / 200
                else "slow" if roll < 1 / 100 else "ok")
        key = f"k{number}.{chance.randrange(4)}"
        id_ = f"{number}-{place}"
        body = json.dumps({"id": id_, "key": key, "fate": fate,
                           "pad": "é" * chance.randrange(200)}, ensure_ascii=False).encode()
        self.sent[id_] = Sent(place, digest(body), fate)
        return [id_], body


class PacedOrders(Orders):
    """With a handler that cannot keep up: at each kill some wait."""

    functions = [Function("take-orders", "orders", "paced_order", Orders.functions[0].more)]


class Uploads(Posted):
    """Notifications as MinIO sends them, one to three records each; the results go to a second
    function."""

    name = "uploads"
    path = "/hooks/uploads"
    count = 4
    trigger = """    storage: { kind: minio, path: /hooks/uploads, insecure: true }
"""
    functions = [Function("take-uploads", "uploads", "upload",
                          "    order: key\n    batch: { size: 64 }\n"),
                 Function("after-uploads", "take-uploads", "after",
                          "    order: key\n    batch: { size: 64 }\n")]

    def own_id(self, event_id):
        return event_id.partition(".")[0]

    def make(self, chance, number, place):
        ids, records = [], []
        for index in range(chance.choice((1, 1, 2, 3))):
            key = f"in/{number}.{chance.randrange(4)}.jpg"
            id_ = f"{number:04X}{place * 4 + index:012X}"
            record = {
                "eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "",
                "eventTime": "2026-01-02T03:04:05.678Z", "eventName": "s3:ObjectCreated:Put",
                "userIdentity": {"principalId": "prover"},
                "responseElements": {"x-amz-request-id": f"R{id_}"},
                "s3": {"s3SchemaVersion": "1.0", "configurationId": "Config",
                       "bucket": {"name": "photos", "arn": "arn:aws:s3:::photos"},
                       "object": {"key": key.replace("/", "%2F"),
                                  "size": chance.randrange(1 << 40),
                                  "eTag": f"{chance.getrandbits(128):032x}",
                                  "contentType": "image/jpeg", "sequencer": id_}}}
            self.sent[id_] = Sent(place * 4 + index, digest(canonical(record)), "ok")
            ids.append(id_)
            records.append(record)
        body = {"EventName": "s3:ObjectCreated:Put", "Key": "photos/x", "Records": records}
        return ids, json.dumps(body).encode()


class Ticks(Input):
    """Cron, a tick a second, all that were missed: each second of the run must come."""

    name = "ticks"
    trigger = """    cron: { at: "* * * * * *", missed: all }
"""
    functions = [Function("take-ticks", "ticks", "tick", "    order: key\n"),
                 Function("slow-ticks", "ticks", "slow_tick",
                          "    order: none\n    concurrency: 2\n    workers: 2\n")]
    unordered = frozenset({"slow-ticks"})
    endless = True

    def __init__(self):
        super().__init__()
        self.began = None
        self.ended = None

    def start(self, daemon, stopping):
        self.began = int(time.time())

    def waiting(self, handled):
        """While it runs, the clock says what is owed."""
        if self.ended is not None:
            return super().waiting(handled)
        owed = range(self.began + 1, int(time.time()) + 1)
        return sum(not all(handled.has(f.name, self._id(second)) for f in self.functions)
                   for second in owed)

    @staticmethod
    def _id(second):
        moment = datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
        return moment.strftime("ticks/%Y-%m-%dT%H:%M:%SZ")

    @staticmethod
    def _second(id_):
        name, _, stamp = id_.partition("/")
        if name != "ticks":
            return None
        moment = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")
        return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp())

    def close(self, handled, began, ended):
        """What the clock owed is as good as acknowledged."""
        self.began, self.ended = int(began), int(ended)
        for second in range(self.began + 1, self.ended + 1):
            id_ = self._id(second)
            self.sent[id_] = Sent(second, None, "ok")
            self.acked.append(id_)

    def owed(self, handled):
        """The clock goes on, and began with the daemon's first life, not with the proof's count."""
        return len(self.acked), int(time.time()) - self.began + START_S

    def place(self, id_):
        return self._second(id_)

    def sent_hash(self, id_):
        """A tick's data names its instant; a second outside the run is a phantom."""
        second = self._second(id_)
        if second is None or not self.began <= second <= self.ended + 300:
            return None
        return digest(id_.partition("/")[2].encode())

    def may_die(self, id_):
        return False


#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real MinIO sends its own notifications to the real storage trigger (storage_peer).

Usage: minio_storage.py STORAGE_PEER
"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from minio import Minio, free_port  # noqa: E402

LIMIT_S = 60


class Peer:
    """storage_peer and the lines it prints."""

    def __init__(self, program, port, token="tok", refuse=0, delay_ms=0):
        self.lines = []
        self.changed = threading.Condition()
        words = [program, str(port), token, str(refuse), str(delay_ms)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.wait(lambda lines: lines and lines[0] == f"port {port}", "the peer listens")

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()

    def wait(self, condition, what):
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self.lines), LIMIT_S):
                raise AssertionError(f"{what}: not within {LIMIT_S} s; lines {self.lines}")

    def events(self):
        return [json.loads(line) for line in self.lines[1:] if line.startswith("{")]

    def wait_events(self, count):
        """Waits for as many different ids: MinIO may send one twice."""
        self.wait(lambda _: len({e["id"] for e in self.events()}) >= count, f"{count} events")
        return list({event["id"]: event for event in self.events()}.values())

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(LIMIT_S)
        self.reader.join()
        assert code == 0, f"the peer ended with {code}"


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s"
        time.sleep(0.05)


def every_kind_of_change_becomes_one_event(minio, program, port):
    peer = Peer(program, port)
    key = "in/a 0+\u00e9&%.txt"
    etag = minio.s3.put("photos", key, b"content", "text/plain", {"camera": "x1"})
    minio.s3.copy("photos", "copy.bin", "photos", key)
    minio.s3.put_parts("photos", "big.bin", [b"x" * (5 << 20), b"y"])
    minio.s3.delete("photos", key)
    by_type = {event["type"]: event for event in peer.wait_events(4)}
    peer.end()
    put = by_type["com.amazonaws.s3.ObjectCreated:Put"]
    assert put["subject"] == key, put
    assert put["source"] == "minio:s3.photos", put
    assert put["partitionkey"] == key, put
    assert put["size"] == 7 and put["etag"] == etag and put["bucket"] == "photos", put
    data = put["data"]
    assert (data["bucket"], data["key"], data["size"], data["etag"]) == ("photos", key, 7, etag)
    assert data["record"]["s3"]["object"]["userMetadata"]["X-Amz-Meta-Camera"] == "x1"
    assert put["id"].count(".") == 1 and put["id"].endswith(data["sequencer"]), put
    assert by_type["com.amazonaws.s3.ObjectCreated:Copy"]["subject"] == "copy.bin"
    big = by_type["com.amazonaws.s3.ObjectCreated:CompleteMultipartUpload"]
    assert big["data"]["size"] == (5 << 20) + 1, big
    removed = by_type["com.amazonaws.s3.ObjectRemoved:Delete"]
    assert removed["subject"] == key and "size" not in removed, removed


def many_removals_of_one_request_have_ids_of_their_own(minio, program, port):
    peer = Peer(program, port)
    keys = [f"many/{n}" for n in range(100)]
    for key in keys:
        minio.s3.put("photos", key, b"1")
    minio.s3.delete_many("photos", keys)
    events = peer.wait_events(200)
    peer.end()
    removed = {e["subject"] for e in events if e["type"].endswith("ObjectRemoved:Delete")}
    assert removed == set(keys), removed ^ set(keys)


def what_was_refused_comes_again(minio, program, port):
    peer = Peer(program, port, refuse=3)
    for n in range(3):
        minio.s3.put("photos", f"again/{n}", b"1")
    events = peer.wait_events(3)
    peer.end()
    assert {e["subject"] for e in events} == {f"again/{n}" for n in range(3)}, events
    wait_until(lambda: minio.waiting() == 0, "the queue is empty")


def what_happened_while_down_comes_later_even_after_a_crash(minio, program, port):
    for n in range(5):
        minio.s3.put("photos", f"down/{n}", b"1")
    assert minio.waiting() == 5, minio.waiting()
    minio.kill9()
    minio.start()
    minio.wait_notifying("photos")
    peer = Peer(program, port)
    wait_until(lambda: minio.waiting() == 0, "the queue is empty")
    events = peer.wait_events(6)
    peer.end()
    subjects = {e["subject"] for e in events if not e["subject"].startswith("probe/")}
    assert subjects == {f"down/{n}" for n in range(5)}, events


def a_wrong_token_gets_nothing_in(minio, program, port):
    peer = Peer(program, port, token="another")
    minio.s3.put("photos", "secret/1", b"1")
    peer.wait(lambda lines: "gauge unauthorized 1" in lines, "the notification is tried")
    peer.end()
    assert all(line.startswith("gauge unauthorized") for line in peer.lines[1:]), peer.lines
    assert minio.waiting() == 1, "MinIO keeps what was not taken"
    peer = Peer(program, port)
    assert peer.wait_events(1)[0]["subject"] == "secret/1"
    peer.end()


def main():
    program = sys.argv[1]
    port = free_port()
    tests = [
        every_kind_of_change_becomes_one_event,
        many_removals_of_one_request_have_ids_of_their_own,
        what_was_refused_comes_again,
        what_happened_while_down_comes_later_even_after_a_crash,
        a_wrong_token_gets_nothing_in,
    ]
    with tempfile.TemporaryDirectory() as folder:
        with Minio(folder, f"http://127.0.0.1:{port}/hooks/uploads", "Bearer tok") as minio:
            minio.s3.create_bucket("photos")
            minio.s3.notify("photos")
            for test in tests:
                begin = time.monotonic()
                test(minio, program, port)
                print(f"ok {test.__name__} {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()

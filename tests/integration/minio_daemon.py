#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Uploads to a real MinIO reach a function of the real daemon, over crashes of both.

Usage: minio_daemon.py HEADRACE
"""
import http.client
import json
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from daemon import Daemon, whole_lines  # noqa: E402
from minio import Minio  # noqa: E402

LIMIT_S = 60

CONFIG = """
settings:
  listen: 127.0.0.1:0
triggers:
  uploads:
    storage:
      kind: minio
      token: ${TOKEN}
functions:
  seen:
    from: uploads
    when: data.bucket = 'photos' and subject not like 'skipped/%'
    retry: { attempts: 3, backoff: 10ms..20ms }
    shell: |
      printf '%s %s\\n' "$CE_TYPE" "$CE_SUBJECT" >> "${OUT}"
"""


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s"
        time.sleep(0.05)


def post(port, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    connection.request("POST", "/hooks/uploads", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        out = folder / "out"
        out.touch()

        def handled():
            return whole_lines(out)

        environment = {"TOKEN": "tok", "OUT": str(out)}
        daemon = Daemon(program, folder / "daemon", CONFIG, environment)
        with daemon, Minio(folder / "minio", daemon.url("/hooks/uploads"), "Bearer tok") as minio:
            minio.s3.create_bucket("photos")
            minio.s3.notify("photos")
            minio.s3.put("photos", "in/a 1.txt", b"1")
            minio.s3.put("photos", "skipped/b", b"1")
            minio.s3.delete("photos", "in/a 1.txt")
            expected = {
                "com.amazonaws.s3.ObjectCreated:Put in/a 1.txt",
                "com.amazonaws.s3.ObjectRemoved:Delete in/a 1.txt",
            }
            wait_until(lambda: expected <= set(handled()), "the upload and the removal are handled")
            print("ok uploads and removals reach the function", flush=True)

            for n in range(20):
                minio.s3.put("photos", f"crash/{n}", b"1")
                if n == 7:
                    daemon.kill9()
                if n == 12:
                    minio.kill9()
                    minio.start()
                    minio.wait_notifying("photos")
            daemon.start()
            expected = {f"com.amazonaws.s3.ObjectCreated:Put crash/{n}" for n in range(20)}
            try:
                wait_until(lambda: expected <= set(handled()), "all uploads are handled")
            except AssertionError as error:
                raise AssertionError(f"missing: {expected - set(handled())}") from error
            wait_until(lambda: minio.waiting() == 0, "MinIO's queue is empty")
            print("ok nothing is lost over crashes of both", flush=True)

            auth = {"Authorization": "Bearer tok", "Content-Type": "application/json"}
            assert post(daemon.port, b"{ nonsense", auth) == 202
            assert post(daemon.port, b"{ nonsense", {}) == 401
            dead = daemon.ask("dlq", "ls")
            assert "not JSON" in json.dumps(dead), dead
            print("ok a malformed notification is a dead letter", flush=True)
            daemon.ask("emit", "uploads", "--set", "bucket=photos", "--set", "key=by hand.txt")
            line = "com.amazonaws.s3.ObjectCreated:Put by hand.txt"
            wait_until(lambda: line in handled(), "the event by hand is handled")
            print("ok an upload made by hand goes the same way", flush=True)
            assert not any("skipped/" in line for line in handled()), "the filter holds"


if __name__ == "__main__":
    main()

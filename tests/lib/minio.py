# SPDX-License-Identifier: Apache-2.0
"""A real MinIO for a test: start, use its S3 client, stop.

    with Minio(folder, "http://127.0.0.1:7080/hooks/uploads", auth="Bearer token") as minio:
        minio.s3.create_bucket("photos"); minio.s3.notify("photos")
"""
import itertools
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from daemon import free_port  # noqa: E402, F401
from s3 import S3  # noqa: E402

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "services" / "minio.sh"


class Minio:
    def __init__(self, folder, url, auth=""):
        self.folder = pathlib.Path(folder)
        self.url = url
        self.auth = auth
        self.port = free_port()
        self.s3 = S3(self.port)
        self.is_running = False

    def _run(self, *words):
        subprocess.run([SCRIPT, *map(str, words)], check=True)

    def start(self):
        self._run("start", self.folder, self.port, self.url, self.auth)
        self.is_running = True

    def stop(self):
        self._run("stop", self.folder)
        self.is_running = False

    def kill9(self):
        self._run("kill9", self.folder)
        self.is_running = False

    def waiting(self):
        """How many notifications wait in the queue on disk."""
        return sum(1 for path in (self.folder / "queue").rglob("*") if path.is_file())

    def wait_notifying(self, bucket):
        """MinIO is ready before its notification rules are loaded: a put in between is told to
        nobody. Puts probe/N until one is queued."""
        end = time.monotonic() + 60
        before = self.waiting()
        for n in itertools.count():
            self.s3.put(bucket, f"probe/{n}", b"1")
            if self.waiting() > before:
                return
            assert time.monotonic() < end, "MinIO sends no notifications"
            time.sleep(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        if self.is_running:
            self.stop()

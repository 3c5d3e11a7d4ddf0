#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small S3 client of the standard library (signature version 4, path style), for tests.

    client = S3(port)
    client.create_bucket("b"); client.notify("b"); client.put("b", "in/a 1.txt", b"...")

As a program: s3.py ready PORT exits 0 when the server on 127.0.0.1:PORT takes requests.
"""
import base64
import datetime
import hashlib
import hmac
import http.client
import re
import sys
import urllib.parse

TARGET = "arn:minio:sqs::hook:webhook"


class Refused(Exception):
    """The server answered with an error; status and body say which."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body[:300]!r}")
        self.status = status
        self.body = body


class S3:
    def __init__(self, port, user="headrace", password="headrace-secret", region="us-east-1"):
        self.port = port
        self.user = user
        self.password = password
        self.region = region

    def _signature(self, method, path, query, headers, digest, now):
        day = now[:8]
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = "\n".join([method, path, query, lines, names, digest])
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = "\n".join(
            ["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()]
        )
        key = ("AWS4" + self.password).encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        value = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return (
            f"AWS4-HMAC-SHA256 Credential={self.user}/{scope}, "
            f"SignedHeaders={names}, Signature={value}"
        )

    def request(self, method, bucket, key=None, query=None, body=b"", headers=None):
        """One signed request. Returns (headers, body) or raises Refused."""
        path = "/" + bucket
        if key is not None:
            path += "/" + urllib.parse.quote(key, safe="/-_.~")
        pairs = sorted((query or {}).items())
        line = "&".join(
            f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}"
            for k, v in pairs
        )
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        signed = {
            "host": f"127.0.0.1:{self.port}",
            "x-amz-content-sha256": digest,
            "x-amz-date": now,
        }
        for name, value in (headers or {}).items():
            signed[name.lower()] = value
        sent = dict(signed)
        sent["authorization"] = self._signature(method, path, line, signed, digest, now)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path + ("?" + line if line else ""), body, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise Refused(answer.status, text)
        return answer.headers, text

    def create_bucket(self, bucket):
        self.request("PUT", bucket)

    def notify(self, bucket, events=("s3:ObjectCreated:*", "s3:ObjectRemoved:*"), target=TARGET):
        """Sends notifications of the bucket to a target of the server's configuration."""
        names = "".join(f"<Event>{name}</Event>" for name in events)
        body = (
            "<NotificationConfiguration><QueueConfiguration><Id>all</Id>"
            f"<Queue>{target}</Queue>{names}</QueueConfiguration></NotificationConfiguration>"
        )
        self.request("PUT", bucket, query={"notification": ""}, body=body.encode())

    def put(self, bucket, key, body=b"", content_type="application/octet-stream", meta=None):
        """Stores an object and returns its ETag without quotes."""
        headers = {"content-type": content_type}
        for name, value in (meta or {}).items():
            headers["x-amz-meta-" + name] = value
        answer, _ = self.request("PUT", bucket, key, body=body, headers=headers)
        return answer["ETag"].strip('"')

    def copy(self, bucket, key, source_bucket, source_key):
        source = "/" + source_bucket + "/" + urllib.parse.quote(source_key, safe="/-_.~")
        self.request("PUT", bucket, key, headers={"x-amz-copy-source": source})

    def put_parts(self, bucket, key, parts):
        """A multipart upload; all parts but the last have at least 5 MiB."""
        _, text = self.request("POST", bucket, key, query={"uploads": ""})
        upload = re.search(rb"<UploadId>([^<]+)</UploadId>", text).group(1).decode()
        done = ""
        for number, part in enumerate(parts, 1):
            query = {"partNumber": str(number), "uploadId": upload}
            answer, _ = self.request("PUT", bucket, key, query=query, body=part)
            tag = answer["ETag"]
            done += f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{done}</CompleteMultipartUpload>"
        self.request("POST", bucket, key, query={"uploadId": upload}, body=body.encode())

    def get(self, bucket, key):
        return self.request("GET", bucket, key)[1]

    def delete(self, bucket, key):
        self.request("DELETE", bucket, key)

    def delete_many(self, bucket, keys):
        """One request that removes many objects."""
        names = "".join(
            "<Object><Key>"
            + key.replace("&", "&amp;").replace("<", "&lt;")
            + "</Key></Object>"
            for key in keys
        )
        body = f"<Delete><Quiet>true</Quiet>{names}</Delete>".encode()
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        self.request("POST", bucket, query={"delete": ""}, body=body, headers={"content-md5": md5})


def is_ready(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/minio/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "ready":
        sys.exit("usage: s3.py ready PORT")
    sys.exit(0 if is_ready(int(sys.argv[2])) else 1)

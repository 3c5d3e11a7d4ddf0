# SPDX-License-Identifier: Apache-2.0
"""How tests/prove compares payloads, on the side that sends and on the side that handles."""
import hashlib
import json


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def canonical(value):
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

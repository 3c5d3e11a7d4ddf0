# SPDX-License-Identifier: Apache-2.0
import headrace


def handle(event, ctx):
    size = event.data.get("size") or 0
    if size == 0:
        raise headrace.Dead("an empty picture")
    print("thumbnail of", event.data["key"], "of", size, "bytes")
    return {"thumbnail": "thumbs/" + event.data["key"]}

# SPDX-License-Identifier: Apache-2.0
"""What is returned is a new event; audit takes it."""


def hot(event, ctx):
    return {"what": "hot", "of": f"{event.site}/{event.device}", "celsius": event.data["celsius"]}


def bill(event, ctx):
    return {"what": "bill", "of": event.data["order"], "amount": event.data["amount"]}


def thumbnail(event, ctx):
    return {"what": "thumbnail", "of": event.data["bucket"] + "/" + event.data["key"]}

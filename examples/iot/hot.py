# SPDX-License-Identifier: Apache-2.0
def handle(event, ctx):
    celsius = event.data["celsius"]
    ctx.log.info("hot", device=event.device, celsius=celsius)
    return {"text": f"{event.device} at {event.site}: {celsius:.1f} °C", "celsius": celsius}

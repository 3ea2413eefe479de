"""The chassis' own parts on the adapters of the rendered service, one step more in each contender.

`receive` takes from the bus and acknowledges. `decode` adds envelope, protobuf and digest, `claim`
the inbox's claim, and `complete` the completion. The whole service adds metrics, limits and logs.
With BENCH_EVENTS=0 it only makes the topology.
"""

import asyncio
import os
import sys

import uvloop
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from meter import Meter

from chassis import adapters, settings
from chassis.bus import Delivery, NoBusMetrics, Subscription
from chassis.inbox import Lease, inbox_key, payload_digest

STEPS = ("receive", "decode", "claim", "complete")


async def main(step: str) -> None:
    level = STEPS.index(step)
    configured = settings.load()
    bus = adapters.open_bus(configured, "bench", NoBusMetrics())
    inbox = adapters.open_inbox(configured)
    finished = asyncio.Event()
    meter = Meter(finished.set)

    async def on_delivery(delivery: Delivery) -> None:
        if level >= 1:
            envelope = delivery.envelope()
            UserSignedUp.FromString(delivery.body)
            digest = payload_digest(delivery.body)
        if level >= 2:
            lease = await inbox.claim(inbox_key("bench", "count", envelope.id), digest)
            if level >= 3 and isinstance(lease, Lease):
                await inbox.complete(lease)
        delivery.done()
        meter.hit()

    await inbox.open()
    bus.subscribe(
        Subscription("bench", frozenset({"acme.signup.v1.UserSignedUp"}), configured.prefetch),
        on_delivery,
    )
    await bus.start()
    await bus.wait_ready()
    if os.environ["BENCH_EVENTS"] != "0":
        await finished.wait()
    await bus.close()
    await inbox.close()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(sys.argv[1]))

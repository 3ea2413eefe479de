"""The handlers under test, as a rendered service's module. They report to tests/chaos/sink.py."""

HANDLERS = '''"""The handlers under test: effects that somebody outside counts."""

import asyncio
import os
import random
import sqlite3
import time

from acme.billing.v1.signup_handled_pb2 import SignupHandled
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from chassis import Context, Service

service = Service("billing-svc")
sink = sqlite3.connect(os.environ.get("CHAOS_SINK", ":memory:"), isolation_level=None, timeout=60)


@service.on(UserSignedUp)
async def handle_signup(event: UserSignedUp, ctx: Context) -> None:
    if event.email == "poison":
        raise ValueError("poison")
    if event.email == "slow" and ctx.attempt == 1:
        await asyncio.sleep(60)  # until the handler timeout ends it
    await asyncio.sleep(random.random() * 0.02)
    row = ctx.event_id, ctx.idempotency_key, os.getpid()
    sink.execute("INSERT INTO effects (event_id, key, pid) VALUES (?, ?, ?)", row)
    ctx.publish(SignupHandled(user_id=ctx.event_id))
    await asyncio.sleep(random.random() * 0.02)


def one_of_ten(event: SignupHandled) -> str | None:
    """Ten keys, each for one event in a hundred.

    The other events have no order: after a kill they do not wait for a key.
    """
    ending = event.user_id[-2:]
    return ending if ending < "10" else None


@service.on(SignupHandled, ordered_by=one_of_ten)
async def note_outcome(event: SignupHandled, ctx: Context) -> None:
    begun = time.time()
    await asyncio.sleep(random.random() * 0.02)
    row = event.user_id, ctx.event_id, one_of_ten(event), os.getpid(), begun, time.time()
    sink.execute("INSERT INTO published VALUES (?, ?, ?, ?, ?, ?)", row)


if os.environ.get("CHASSIS_INBOX_URL", "").startswith("postgresql"):

    @service.on(UserSignedUp)
    async def keep_signup(event: UserSignedUp, ctx: Context) -> None:
        connection = await ctx.transaction()
        await connection.execute("INSERT INTO effects VALUES (%s)", (ctx.event_id,))
        await asyncio.sleep(random.random() * 0.02)
'''

EXTRAS = "rabbitmq,nats,redis,postgres"
"""Of the chassis: every broker and store that chaos knows."""

"""Welcomes everybody who signs up, and reminds those who have not paid."""

import asyncio

from chassis import Context, Service

from acme.orders.v1.orders_pb2 import ReminderWanted
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from acme.welcome.v1.welcome_sent_pb2 import WelcomeSent
from welcome_svc.provider import call_provider

service = Service("welcome-svc")


@service.on(UserSignedUp)
async def send_welcome(event: UserSignedUp, ctx: Context) -> None:
    name, _domain = event.email.split("@")
    call_provider(service.name, ctx.event_id, ctx.idempotency_key)
    await asyncio.sleep(0.2)  # until the mail provider has answered
    ctx.log.info("welcomed", name=name)
    ctx.publish(WelcomeSent(user_id=event.user_id))


@service.on(ReminderWanted)
async def remind(event: ReminderWanted, ctx: Context) -> None:
    call_provider(service.name, f"remind {event.order_id}", ctx.idempotency_key)

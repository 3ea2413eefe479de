"""Opens an account for everybody who signs up."""

import asyncio

from chassis import Context, Service

from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from billing_svc.provider import call_provider

service = Service("billing-svc")


@service.on(UserSignedUp)
async def open_account(event: UserSignedUp, ctx: Context) -> None:
    await asyncio.sleep(0.005)  # the payment provider's round trip
    call_provider(service.name, ctx.event_id, ctx.idempotency_key)
    ctx.publish(AccountOpened(user_id=event.user_id, account_id=f"a-{event.user_id}"))

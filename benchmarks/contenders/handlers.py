"""The handler of the measured service: the chassis does everything, the handler nothing.

With BENCH_PUBLISHES it publishes one event, of a type that no queue is bound to.
"""

import os
import signal

from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from google.protobuf.wrappers_pb2 import BytesValue
from meter import Meter

from chassis import Context, Service

PUBLISHES = "BENCH_PUBLISHES" in os.environ

service = Service("billing-svc")
meter = Meter(lambda: os.kill(os.getpid(), signal.SIGTERM))


@service.on(UserSignedUp)
async def count(event: UserSignedUp, ctx: Context) -> None:
    if PUBLISHES:
        ctx.publish(BytesValue(value=event.SerializeToString()))
    meter.hit()

"""The handler of the measured service: the chassis does everything, the handler nothing."""

import os
import signal

from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from meter import Meter

from chassis import Context, Service

service = Service("billing-svc")
meter = Meter(lambda: os.kill(os.getpid(), signal.SIGTERM))


@service.on(UserSignedUp)
async def count(event: UserSignedUp, ctx: Context) -> None:
    meter.hit()

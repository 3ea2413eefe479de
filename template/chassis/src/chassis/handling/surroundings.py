"""The values that travel together through the handling of one way in."""

from dataclasses import dataclass

from chassis.context import Held
from chassis.handling.appointments import HOLD_SECONDS
from chassis.handling.breaker import FailurePause
from chassis.handling.endings import Judge
from chassis.handling.leases import LeaseKeeper
from chassis.handling.outage import StoreOutage
from chassis.handling.setup import SetupPause
from chassis.inbox import Inbox
from chassis.publishing.publisher import Publisher
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import Traces


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes.

    `probe`: between two tries while the store or the broker is away. `cancel`: until a drain leaves
    a cancelled handler behind. `put_off`: until an event that arrived during a pause may come
    again. `hold`: how long an event with an order is kept in hand, its retries included.
    """

    handler_timeout: float
    lease: float
    max_body: int
    probe: float = 0.5
    cancel: float = 5.0
    put_off: float = 1.0
    hold: float = HOLD_SECONDS


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`inbox` gives the claims of this way in. The other parts serve all ways in of `service`."""

    service: str
    judge: Judge
    inbox: Inbox
    leases: LeaseKeeper
    publisher: Publisher
    outage: StoreOutage
    failures: FailurePause
    setup: SetupPause
    limits: Limits
    metrics: Metrics
    traces: Traces
    held: Held

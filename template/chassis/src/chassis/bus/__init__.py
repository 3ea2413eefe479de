"""The bus port: what the rest of the chassis may ask of a broker.

Every adapter passes one conformance suite, so the consumer never has to know its broker.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from chassis.bus.dead_letters import DeadLetter, Failure
from chassis.bus.history import History
from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.unavailable import Unavailable

__all__ = [
    "Backlog",
    "Bus",
    "BusMetrics",
    "BusUnavailable",
    "DeadLetter",
    "Delivery",
    "DeliveryMode",
    "Failure",
    "NoBusMetrics",
    "OnDelivery",
    "Subscription",
    "Unpublishable",
    "Verdict",
]

DeliveryMode = Literal["shared", "every_replica"]


class BusUnavailable(Unavailable):
    """The broker did not confirm: not connected, connection lost, refused or timed out.

    The message may have arrived. Publishing it again with the same id is safe.
    """


class Unpublishable(ValueError):
    """This event can never be published.

    It has no valid type, or it is too large for the broker or for the service.
    """


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which events of the bus a service takes.

    `shared`: one durable queue for `service`; each event goes to one replica.
    `every_replica`: a queue for this process alone, gone with the process.
    `types` are protobuf full names; None takes every event (only with `every_replica`).
    `prefetch` bounds the deliveries that are not yet settled.
    """

    service: str
    types: frozenset[str] | None
    prefetch: int = 100
    mode: DeliveryMode = "shared"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the broker holds for a service: events that no replica has taken, and dead letters.

    Neither number includes events that wait for a later attempt. `most_dead` is the broker's bound
    of the dead letters, None if there is none.
    """

    waiting: int
    dead: int
    most_dead: int | None = None


class Verdict(Enum):
    """What a sweep does with a dead letter."""

    KEEP = "keep"
    REPLAY = "replay"
    DISCARD = "discard"


class Delivery(Protocol):
    """One message as the broker delivered it. The consumer calls exactly one of four
    settling methods, once.

    Each returns True if it took effect. Once the connection is lost, settling does nothing and
    returns False: the broker delivers the message again.
    """

    @property
    def headers(self) -> Mapping[str, object]:
        """The headers, untouched."""

    @property
    def body(self) -> bytes: ...

    @property
    def history(self) -> History:
        """One attempt more for each `later(counted=True)`. Hand-backs and crashes do not count."""

    def envelope(self) -> Envelope:
        """The CloudEvents attributes; raises EnvelopeError."""

    def done(self) -> bool:
        """Handled, or a duplicate: acknowledge. Batched; returns at once."""

    async def later(self, delay: float, *, counted: bool) -> bool:
        """Deliver again after about `delay` seconds, even if this process is gone by then.

        Raises BusUnavailable; the message then stays. If `counted` and the broker can never store
        the copy that counts, raises Unpublishable.
        """

    async def dead(self, failure: Failure) -> bool:
        """Store in the service's dead letters, cut down if there is no room, then acknowledge.

        Raises BusUnavailable; the message then stays. A message of an `every_replica` subscription
        is only acknowledged: a replay would reach one replica, not each.
        """

    async def hand_back(self) -> bool:
        """Not started: give the message back, for any replica to take at once."""


OnDelivery = Callable[[Delivery], Awaitable[None]]


class Bus(Protocol):
    """A connection to a broker that supervises itself.

    It rebuilds connection, topology and consumers as one.
    """

    @property
    def system(self) -> str:
        """OpenTelemetry's `messaging.system`: rabbitmq, nats, memory."""

    @property
    def connected(self) -> bool:
        """True while publishing can work."""

    @property
    def consuming(self) -> bool:
        """True while every subscription is live and not paused."""

    def subscribe(self, subscription: Subscription, on_delivery: OnDelivery) -> None:
        """Take events once started. `on_delivery` runs per delivery, up to `prefetch` at a time."""

    async def start(self) -> None:
        """Begin to connect, and stay connected. Returns at once, even without a broker."""

    async def wait_ready(self) -> None:
        """Return when the bus is connected and every subscription is live."""

    async def publish(self, message: EncodedEvent) -> None:
        """Return when the broker has stored the event. An event without a taker is no error.

        Raises BusUnavailable, and Unpublishable if the event can never be stored.
        """

    async def pause(self) -> None:
        """Take no further deliveries. Until this returns, some may still arrive."""

    async def resume(self) -> None:
        """Take deliveries again after `pause`."""

    async def sweep(self, service: str, decide: Callable[[DeadLetter], Awaitable[Verdict]]) -> None:
        """Show every dead letter of `service` to `decide`, oldest first; carry out its verdicts.

        REPLAY puts the message into the service's own queue as a first attempt and removes it here.
        The sweep does not include entries that arrive meanwhile. It needs no running service.
        """

    async def backlog(self, service: str) -> Backlog:
        """What the broker holds for `service`; 0 without a queue. Raises BusUnavailable."""

    async def close(self) -> None:
        """Flush acknowledgements and confirms, hand back unsettled deliveries, disconnect."""


class BusMetrics(Protocol):
    """What an adapter reports."""

    def reconnected(self) -> None:
        """A lost connection is back."""

    def acknowledged(self, count: int) -> None:
        """`count` deliveries were acknowledged with one frame."""


class NoBusMetrics:
    """Reports nothing."""

    def reconnected(self) -> None:
        return None

    def acknowledged(self, count: int) -> None:
        return None

"""The bus port: what the rest of the chassis may ask of a broker.

Every adapter passes one conformance suite, so the consumer never has to know which broker it talks to.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from chassis.bus.history import History
from chassis.contracts.envelope import EncodedEvent, Envelope

DeliveryMode = Literal["shared", "every_replica"]


class BusUnavailable(ConnectionError):
    """The broker did not confirm: not connected, connection lost, refused or timed out.

    Whether the message arrived is not known; publishing it again with the same id is safe.
    """


class Unpublishable(ValueError):
    """This event can never be published: it has no valid type, or is too large for the broker or for the service."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which events of the bus a service takes.

    `shared`: one durable queue for `service`, each event goes to one replica.
    `every_replica`: a queue of its own for this process, gone with it.
    `types` are protobuf full names; None takes every event (only with `every_replica`).
    `prefetch` bounds the deliveries that are not yet settled.
    """

    service: str
    types: frozenset[str] | None
    prefetch: int = 100
    mode: DeliveryMode = "shared"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message goes to the dead letters. Times are RFC 3339; `stack` is at most 4 KiB."""

    reason: str
    error: str = ""
    message: str = ""
    stack: str = ""
    handler: str = ""
    attempts: int = 0
    service: str = ""
    version: str = ""
    first_failure: str = ""
    last_failure: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One entry of a service's dead letters: the message as it came in, and why it is here.

    `id` is derived from the message, so the same message that died twice is one entry.
    """

    id: str
    headers: Mapping[str, object]
    body: bytes
    type: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Backlog:
    """What lies at the broker for a service: events that no replica has taken yet, and dead letters.

    Events that wait for a later attempt are in neither number.
    """

    waiting: int
    dead: int


class Verdict(Enum):
    """What to do with a dead letter that a sweep came across."""

    KEEP = "keep"
    REPLAY = "replay"
    DISCARD = "discard"


class Delivery(Protocol):
    """One message as the broker delivered it. Exactly one of the five settling methods is called, once.

    After the connection that brought it is lost, settling does nothing: the broker delivers it again.
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

    def done(self) -> None:
        """Handled, or a duplicate: acknowledge. Batched; returns at once."""

    async def later(self, delay: float, *, counted: bool) -> None:
        """Deliver again after about `delay` seconds, also if this process is gone by then."""

    async def dead(self, failure: Failure) -> None:
        """Store in the service's dead letters, then acknowledge. Raises BusUnavailable; the message is then kept.

        What `every_replica` got is only acknowledged: a dead letter is there to be replayed, to one replica.
        """

    async def hand_back(self) -> None:
        """Not started: give it back for any replica to take at once."""


OnDelivery = Callable[[Delivery], Awaitable[None]]


class Bus(Protocol):
    """A connection to a broker that supervises itself: connection, topology and consumers are rebuilt as one."""

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
        """Take events from `start` on. `on_delivery` runs once a delivery, up to `prefetch` at a time."""

    async def start(self) -> None:
        """Begin to connect, and keep connected. Returns at once, also when there is no broker yet."""

    async def wait_ready(self) -> None:
        """Return when connected and every subscription is live."""

    async def publish(self, message: EncodedEvent) -> None:
        """Return when the broker has stored it. An event that nobody takes is not an error.

        Raises BusUnavailable; Unpublishable when it can never be stored.
        """

    async def pause(self) -> None:
        """Take no further deliveries. Those already on their way may still arrive until this returns."""

    async def resume(self) -> None:
        """Take deliveries again after `pause`."""

    async def sweep(self, service: str, decide: Callable[[DeadLetter], Awaitable[Verdict]]) -> None:
        """Show every dead letter of `service` to `decide`, oldest first, and carry out its verdicts.

        REPLAY puts the message into the service's own queue as a first attempt, then removes it here.
        Entries that arrive during the sweep are not part of it. Works without a running service.
        """

    async def backlog(self, service: str) -> Backlog:
        """How much lies there for `service`; 0 where there is no queue yet. Raises BusUnavailable."""

    async def close(self) -> None:
        """Flush acknowledgements and confirms, hand back what is not settled, disconnect."""


class BusMetrics(Protocol):
    """What an adapter reports. The default reports nothing."""

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

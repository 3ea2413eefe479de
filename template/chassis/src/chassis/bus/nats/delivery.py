"""One message as JetStream delivered it. Its lane settles it.

Knows subjects, acknowledgement subjects and headers; knows no connection.
"""

from collections.abc import Mapping
from typing import Protocol

from chassis.bus import Failure
from chassis.bus.history import History
from chassis.bus.nats.copies import marks, originals
from chassis.contracts.envelope import NATS_PREFIX, Envelope, from_headers
from chassis.jetstream.wire import decode_headers, header_block


class Settler(Protocol):
    """What a delivery asks of the lane that brought it."""

    def history(self, delivery: "NatsDelivery") -> History: ...

    def release(self, delivery: "NatsDelivery") -> None:
        """It is no longer in hand."""

    def acknowledge(self, delivery: "NatsDelivery", ack: str) -> None: ...

    def post(self, ack: str, answer: bytes) -> None:
        """Answer with something other than an acknowledgement."""

    async def later(self, delivery: "NatsDelivery", delay: float, *, counted: bool) -> None: ...

    async def bury(self, delivery: "NatsDelivery", failure: Failure) -> None:
        """Store as a dead letter. Raises BusUnavailable."""

    async def hand_back(self, delivery: "NatsDelivery") -> None: ...


class NatsDelivery:
    """See the port. `subject` is `events.<type>`, or `<kind>.<service>.<type>` for a copy."""

    __slots__ = ("_ack", "_block", "_headers", "_lane", "_open", "_settled", "_subject", "body")

    def __init__(
        self, lane: Settler, subject: str, ack: str, body: bytes, block: bytes | None
    ) -> None:
        self._lane = lane
        self._subject = subject
        self._ack = ack
        self._block = block
        self._headers: dict[str, str] | None = None
        self._open = True
        self._settled = False
        self.body = body

    @property
    def in_hand(self) -> bool:
        """Not settled yet, and not lost with its connection."""
        return self._open

    @property
    def headers(self) -> Mapping[str, object]:
        if self._headers is None:
            block = header_block(self.original_lines()) if self.moved else self._block
            self._headers = decode_headers(block)
        return self._headers

    @property
    def history(self) -> History:
        return self._lane.history(self)

    def envelope(self) -> Envelope:
        return from_headers(self.headers, NATS_PREFIX)

    def done(self) -> bool:
        if not self._open:
            return False
        self.close()
        self._settled = True
        self._lane.acknowledge(self, self._ack)
        return True

    async def later(self, delay: float, *, counted: bool) -> bool:
        if not self._open:
            return False
        await self._lane.later(self, delay, counted=counted)
        return self._settled

    async def dead(self, failure: Failure) -> bool:
        if not self._open:
            return False
        await self._lane.bury(self, failure)
        return self.done()

    async def hand_back(self) -> bool:
        if not self._open:
            return False
        await self._lane.hand_back(self)
        return self._settled

    def refuse(self, delay: float = 0.0) -> None:
        """Negative acknowledgement: the server delivers it again after `delay` seconds."""
        if self._open:
            self.close()
            self._settled = True
            self._lane.post(
                self._ack, b'-NAK {"delay":%d}' % (delay * 1e9) if delay > 0 else b"-NAK"
            )

    def close(self) -> None:
        """No longer in hand: settled, or its connection is lost."""
        self._open = False
        self._lane.release(self)

    def acknowledge_late(self) -> None:
        """Acknowledge although its connection is lost: the next one carries the answer too."""
        self._lane.post(self._ack, b"+ACK")

    def keep_alive(self) -> None:
        self._lane.post(self._ack, b"+WPI")

    @property
    def moved(self) -> bool:
        return not self._subject.startswith("events.")

    @property
    def type(self) -> str:
        """The type of the subject, even if the headers name none."""
        return self._subject.split(".", 2 if self.moved else 1)[-1]

    @property
    def times(self) -> int:
        """How often the server has delivered the message, this time included."""
        tokens = self._ack.split(".")
        return int(tokens[4 if len(tokens) < 11 else 6])

    @property
    def place(self) -> str:
        """Sequence and time in the stream: no two messages share both."""
        tokens = self._ack.split(".")
        first = 5 if len(tokens) < 11 else 7
        return f"{tokens[first]}-{tokens[first + 2]}"

    def original_lines(self) -> list[bytes]:
        return originals(self._block, moved=self.moved)

    def marks(self) -> dict[str, str]:
        return marks(self._block) if self.moved else {}

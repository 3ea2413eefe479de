"""Headers and properties of retries and dead letters.

Pure functions. Knows AMQP properties; knows no channel. Foreign headers may hold any AMQP value.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable, FieldValue
from pamqp.encode import encode_table_value

from chassis.bus import DeadLetter, Failure
from chassis.bus.dead_letters import (
    FAILURE_HEADERS,
    PREFIX,
    REASON,
    failure_headers,
    in_brief,
    letter_id,
    read_failure,
)
from chassis.bus.history import HISTORY_HEADERS, REPLAYS, History
from chassis.bus.rabbitmq.frames import MendedHeader, content_header
from chassis.bus.rabbitmq.headers import content_type
from chassis.contracts.envelope import (
    AMQP_PREFIX,
    AMQP_PREFIX_ALTERNATIVE,
    is_json,
)

ORIGIN_EXCHANGE = "chassis-origin-exchange"
ORIGIN_KEY = "chassis-origin-routing-key"
DELIVERY_COUNT = "x-delivery-count"

_DEAD_MESSAGE_ID = PREFIX + "message-id"
_DEAD_EXCHANGE = PREFIX + "exchange"
_DEAD_KEY = PREFIX + "routing-key"

_OF_THE_EVENT = (AMQP_PREFIX, AMQP_PREFIX_ALTERNATIVE)
_DEEPEST = 16

_NOT_OF_THE_MESSAGE = frozenset(
    {
        *HISTORY_HEADERS,
        ORIGIN_EXCHANGE,
        ORIGIN_KEY,
        *FAILURE_HEADERS.values(),
        _DEAD_MESSAGE_ID,
        _DEAD_EXCHANGE,
        _DEAD_KEY,
        # the broker's own records
        "x-death",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-queue",
        "x-last-death-reason",
        DELIVERY_COUNT,
        "x-acquired-count",
        # further routing keys: through the default exchange they would be names of queues
        "CC",
        "BCC",
    }
)


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the broker delivered it. Its properties stay encoded until they are read."""

    headers: Mapping[str, object]
    body: bytes
    encoded: Basic.Properties | bytes
    exchange: str
    routing_key: str
    unreadable: str = ""
    """The properties that no client can read, by name: each holds what could be read of it."""

    @classmethod
    def of(cls, message: DeliveredMessage, delivery: Basic.Deliver | Basic.GetOk) -> "Received":
        header = message.header
        return cls(
            header.properties.headers or {},
            message.body,
            header.properties,
            delivery.exchange or "",
            delivery.routing_key or "",
            header.unreadable if isinstance(header, MendedHeader) else "",
        )

    @property
    def properties(self) -> Basic.Properties:
        encoded = self.encoded
        return content_header(encoded).properties if isinstance(encoded, bytes) else encoded

    @property
    def content_type(self) -> str | None:
        encoded = self.encoded
        return content_type(encoded) if isinstance(encoded, bytes) else encoded.content_type

    @property
    def own_headers(self) -> dict[str, object]:
        """The publisher's headers, without those of the broker and the chassis."""
        return {
            name: value for name, value in self.headers.items() if name not in _NOT_OF_THE_MESSAGE
        }

    @property
    def moved(self) -> bool:
        """Whether it came into its queue past any exchange: the way of the chassis' own copies."""
        return not self.exchange

    @property
    def history(self) -> History:
        return History.read(self.headers) if self.moved else History()

    @property
    def failed_deliveries(self) -> int:
        """Deliveries without an acknowledgement, by the broker's count; 0 without one."""
        count = self.headers.get(DELIVERY_COUNT)
        return count if isinstance(count, int) else 0

    @property
    def origin(self) -> tuple[str, str]:
        """Exchange and routing key of the first delivery, before any retry."""
        exchange, key = self.headers.get(ORIGIN_EXCHANGE), self.headers.get(ORIGIN_KEY)
        if self.moved and isinstance(exchange, str) and isinstance(key, str):
            return exchange, key
        return self.exchange, self.routing_key


def retry_properties(received: Received, history: History) -> Basic.Properties:
    """Properties of the same message with `history`, on its way back to its own queue."""
    exchange, key = received.origin
    headers = _original(received)
    headers |= {**history.headers(), ORIGIN_EXCHANGE: exchange, ORIGIN_KEY: key}
    return _moved(received, headers, received.properties.message_id)


def dead_properties(
    received: Received, service: str, failure: Failure, room: int = 2**31
) -> Basic.Properties:
    """Properties of a dead letter, in at most `room` bytes. The message id is the letter's id.

    If there is no room: no stack and a short message, then no headers but those of CloudEvents,
    then none.
    """
    original = _original(received)
    event = {name: value for name, value in original.items() if name.startswith(_OF_THE_EVENT)}
    brief = in_brief(failure)
    full = _dead(received, service, failure, original)
    cut_down = (_dead(received, service, brief, kept) for kept in (original, event, {}))
    return next((each for each in (full, *cut_down) if fits(each, room)), full)


def fits(properties: Basic.Properties, room: int) -> bool:
    """Whether `properties` take at most `room` bytes."""
    return len(properties.marshal()) <= room


def _dead(
    received: Received, service: str, failure: Failure, original: FieldTable
) -> Basic.Properties:
    exchange, key = received.origin
    headers = original | failure_headers(failure)
    if received.history.replays:
        headers[REPLAYS] = received.history.replays
    headers |= {_DEAD_EXCHANGE: exchange, _DEAD_KEY: key}
    if received.properties.message_id is not None:
        headers[_DEAD_MESSAGE_ID] = received.properties.message_id
    return _moved(received, headers, _letter_id(service, received))


def replay_properties(received: Received) -> Basic.Properties:
    """Properties of a dead letter that becomes a first attempt again."""
    message_id = received.properties.message_id
    if _buried_by_chassis(received):
        original_id = received.headers.get(_DEAD_MESSAGE_ID)
        message_id = original_id if isinstance(original_id, str) else None
    headers = _original(received) | received.history.replayed().headers()
    return _moved(received, headers, message_id)


def dead_letter(received: Received, service: str) -> DeadLetter:
    """`received` as a dead letter, moved there by the chassis or by the broker itself."""
    headers = received.headers
    by_chassis = _buried_by_chassis(received)
    type_ = headers.get(AMQP_PREFIX + "type", headers.get(AMQP_PREFIX_ALTERNATIVE + "type"))
    return DeadLetter(
        id=str(received.properties.message_id) if by_chassis else _letter_id(service, received),
        headers=_original(received),
        body=received.body,
        type=type_ if isinstance(type_, str) else "",
        failure=read_failure(headers) if by_chassis else _crash_loop(received, service),
        replays=received.history.replays,
        json=is_json(received.content_type),
    )


def _buried_by_chassis(received: Received) -> bool:
    """Whether the chassis put it there, not the broker. A foreign header cannot pretend."""
    return (
        REASON in received.headers
        and "x-death" not in received.headers
        and received.properties.message_id is not None
    )


def _crash_loop(received: Received, service: str) -> Failure:
    """The broker moved the message after too many deliveries without an outcome."""
    deaths = received.headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    time = death.get("time")
    return Failure(
        reason="crash_loop",
        message=f"moved here by RabbitMQ: {death.get('reason', 'no reason given')}",
        attempts=received.history.attempt,
        service=service,
        first_failure=received.history.first_failure,
        last_failure=time.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if isinstance(time, datetime)
        else "",
    )


def _letter_id(service: str, received: Received) -> str:
    return letter_id(service, _original(received), received.body, received.history.replays)


def _moved(received: Received, headers: FieldTable, message_id: str | None) -> Basic.Properties:
    """The message's own properties.

    Left out: `expiration`, which would remove the message, and `user_id`, which the broker refuses
    from another user.
    """
    properties = received.properties
    return Basic.Properties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=headers,
        delivery_mode=2,
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        message_id=message_id,
        timestamp=properties.timestamp,
        message_type=properties.message_type,
        app_id=properties.app_id,
    )


def _original(received: Received) -> FieldTable:
    return {name: _encodable(value) for name, value in received.own_headers.items()}


def _encodable(value: object, depth: int = 0) -> FieldValue:
    """`value`, or the nearest value that the client can write.

    The client reads more than it writes. Strings that are not UTF-8 go out as byte arrays, numbers
    that do not fit as text, and so does what is nested too deep.
    """
    match value:
        case None | bool() | str() | bytearray() | datetime():
            return value
        case bytes():
            return bytearray(value)
        case dict() if depth < _DEEPEST:
            return {str(key): _encodable(item, depth + 1) for key, item in value.items()}
        case list() if depth < _DEEPEST:
            return [_encodable(item, depth + 1) for item in value]
        case int() | float() | Decimal():
            return value if _survives(value) else str(value)
        case _:
            return str(value)[:1000]


def _survives(number: float | Decimal) -> bool:
    """Whether the client writes `number` unchanged: it writes floats with 32 bits."""
    try:
        if isinstance(number, float):
            return bool(struct.unpack(">f", struct.pack(">f", number))[0] == number)
        encode_table_value(number)
    except (TypeError, ValueError, ArithmeticError, struct.error):
        return False
    return True

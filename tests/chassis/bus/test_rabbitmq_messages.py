"""What is written into headers and properties, and read from those of others."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pamqp.commands import Basic
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

from chassis.bus import Failure
from chassis.bus.history import History
from chassis.bus.rabbitmq.bus import _without_secrets
from chassis.bus.rabbitmq.messages import (
    Received,
    dead_letter,
    dead_properties,
    replay_properties,
    retry_properties,
)
from chassis.bus.rabbitmq.properties import event_properties
from chassis.bus.rabbitmq.topology import (
    RUNGS,
    Queue,
    dead_letter_queue,
    delay_queue,
    replica_queue,
    server_version,
    shared_queue,
)
from chassis.contracts.envelope import AMQP_PREFIX, EncodedEvent, Envelope, to_headers

SECOND = History(2, "2026-01-02T03:04:05Z")
FAILURE = Failure("rejected", message="no such plan: “gold”", attempts=3, service="billing-svc")
EVENT = {
    "cloudEvents:id": "e-1",
    "cloudEvents:source": "signup-svc",
    "cloudEvents:type": "acme.v1.A",
}
STRANGE: dict[str, object] = {
    "nothing": None,
    "flag": True,
    "small": -7,
    "large": 2**62,
    "half": 0.5,
    "money": Decimal("12.25"),
    "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "bytes": b"\xff\xfe",
    "array": bytearray(b"\x00\xff"),
    "table": {"inner": {"list": [1, "two", None, b"\xff"]}},
}


def received(headers: dict[str, object], body: bytes = b"body", **properties: object) -> Received:
    return Received(headers, body, Basic.Properties(**properties), "events", "acme.v1.A")  # type: ignore[arg-type]


def over_the_wire(
    properties: Basic.Properties, body: bytes = b"body", key: str = "billing-svc"
) -> Received:
    frame = unmarshal(marshal(ContentHeader(0, len(body), properties), 1))[2]
    assert isinstance(frame, ContentHeader)
    return Received(frame.properties.headers or {}, body, frame.properties, "", key)


def sent(envelope: Envelope, service: str) -> Basic.Properties:
    """The properties of an event, as a client reads them."""
    encoded = event_properties(EncodedEvent(envelope, b""), service)
    properties = Basic.Properties()
    properties.unmarshal(int.from_bytes(encoded[:2], "big"), encoded[2:])
    return properties


def test_headers_of_foreign_publishers_survive_retry_death_and_replay() -> None:
    retried = over_the_wire(retry_properties(received(EVENT | STRANGE), SECOND))
    assert retried.history == SECOND
    assert retried.origin == ("events", "acme.v1.A")
    dead = over_the_wire(dead_properties(retried, "billing-svc", FAILURE))
    assert dead_letter(dead, "billing-svc").headers == EVENT | STRANGE
    replayed = over_the_wire(replay_properties(dead))
    assert (replayed.own_headers, replayed.history) == (EVENT | STRANGE, History(replays=1))


@pytest.mark.parametrize("value", [0.1, 1e300, Decimal("1e40"), 2**70])
def test_a_number_that_the_client_cannot_write_is_kept_as_text(value: object) -> None:
    moved = over_the_wire(retry_properties(received({"number": value}), History()))
    assert moved.headers["number"] == str(value)


def test_what_belongs_to_one_journey_is_not_taken_to_the_next() -> None:
    journey: dict[str, object] = {
        "CC": ["other-queue"],
        "x-death": [{"queue": "billing-svc"}],
        "x-delivery-count": 7,
    }
    message = received(
        EVENT | journey, expiration="10", user_id="somebody", message_id="m", correlation_id="c"
    )
    for properties in (
        retry_properties(message, SECOND),
        dead_properties(message, "billing-svc", FAILURE),
    ):
        assert not journey.keys() & (properties.headers or {}).keys()
        assert (properties.expiration, properties.user_id, properties.correlation_id) == (
            None,
            None,
            "c",
        )


def test_a_replayed_message_has_its_own_message_id_again() -> None:
    dead = over_the_wire(
        dead_properties(received(EVENT, message_id="original"), "billing-svc", FAILURE)
    )
    assert dead.properties.message_id == dead_letter(dead, "billing-svc").id != "original"
    assert replay_properties(dead).message_id == "original"


@pytest.mark.parametrize("headers", [EVENT, {}, {"junk": b"\xff"}])
def test_a_message_that_the_broker_moved_has_the_id_that_the_chassis_would_give(
    headers: dict[str, object],
) -> None:
    by_chassis = dead_letter(
        over_the_wire(dead_properties(received(headers), "billing-svc", FAILURE)), "billing-svc"
    )
    death = {
        "reason": "delivery_limit",
        "queue": "billing-svc",
        "time": datetime(2026, 1, 2, tzinfo=UTC),
    }
    by_broker = dead_letter(
        received(headers | {"x-death": [death], "x-delivery-count": 21}), "billing-svc"
    )
    assert by_broker.id == by_chassis.id
    assert by_broker.failure.reason == "crash_loop"
    assert by_broker.failure.last_failure == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize("death", [None, "x", [], [3], [{}], [{"time": "never"}]])
def test_whatever_stands_in_x_death_a_dead_letter_can_be_shown(death: object) -> None:
    assert dead_letter(received({"x-death": death}), "billing-svc").failure.reason == "crash_loop"


def test_other_events_have_other_dead_letter_ids() -> None:
    messages = [
        received(EVENT),
        received(EVENT | {"cloudEvents:id": "e-2"}),
        received(EVENT | {"cloudEvents:source": "other-svc"}),
        received({}, b"1"),
        received({}, b"2"),
        received({"junk": 1}, b"1"),
    ]
    assert len({dead_letter(message, "billing-svc").id for message in messages}) == len(messages)


def test_an_event_is_durable_typed_and_named() -> None:
    envelope = Envelope(
        "ü" * 200, "signup-svc", "acme.v1.A", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
    properties = sent(envelope, "signup-svc")
    assert (properties.content_type, properties.delivery_mode) == ("application/protobuf", 2)
    assert (properties.app_id, properties.timestamp) == ("signup-svc", envelope.time)
    assert len(properties.message_id or "") == 32, "400 bytes do not fit, so it is a hash"


def test_an_event_from_before_1970_can_be_published() -> None:
    envelope = Envelope("e-1", "archive-svc", "acme.v1.A", datetime(1912, 4, 15, tzinfo=UTC))
    properties = sent(envelope, "archive-svc")
    assert (properties.headers or {})["cloudEvents:time"] == "1912-04-15T00:00:00.000000Z"
    assert properties.timestamp is None


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"time": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "subject": "ünï"},
        {"traceparent": "00-1-2-01"},
        {"traceparent": "00-1-2-01", "tracestate": "a=b"},
    ],
)
def test_an_event_has_every_attribute_of_its_envelope(more: dict[str, Any]) -> None:
    envelope = Envelope("e-1", "signup-svc", "acme.v1.A", **more)
    assert sent(envelope, "signup-svc").headers == to_headers(envelope, AMQP_PREFIX)


@pytest.mark.parametrize(
    ("delay", "milliseconds"),
    [(0, 100), (0.1, 100), (0.11, 200), (1, 1600), (300, 409_600), (1e9, 104_857_600)],
)
def test_a_delay_goes_to_the_next_longer_rung(delay: float, milliseconds: int) -> None:
    queue = delay_queue(shared_queue("billing-svc"), delay)
    assert queue.name == f"billing-svc.later.{milliseconds}ms"
    assert queue.arguments["x-message-ttl"] == milliseconds
    assert queue.arguments["x-dead-letter-routing-key"] == "billing-svc"
    assert len(RUNGS) == 21


def test_a_replica_waits_for_retries_in_queues_of_its_own() -> None:
    home = replica_queue("billing-svc", "token")
    queue = delay_queue(home, 1)
    assert (home.exclusive, queue.exclusive) == (True, True)
    assert queue.arguments["x-dead-letter-routing-key"] == home.name
    assert "x-queue-type" not in queue.arguments, "a quorum queue cannot be exclusive"


@pytest.mark.parametrize(
    ("version", "limit"), [((), None), ((3, 13, 7), None), ((4, 0, 1), -1), ((4, 3, 0), -1)]
)
def test_dead_letters_can_be_looked_at_for_ever(
    version: tuple[int, ...], limit: int | None
) -> None:
    queue: Queue = dead_letter_queue("billing-svc", version)
    assert queue.arguments.get("x-delivery-limit") == limit


@pytest.mark.parametrize(
    ("told", "version"),
    [("3.10.8", (3, 10, 8)), ("4.3.0-rc.1", (4, 3, 0)), ("", ()), ("unknown", ()), (None, ())],
)
def test_the_version_of_the_server_is_read(told: object, version: tuple[int, ...]) -> None:
    assert server_version({"version": told}) == version


def test_a_url_is_shown_without_its_secrets() -> None:
    url = "amqps://user:s3cret@rabbit.example:5671/prod?keyfile=/run/key.pem"
    assert _without_secrets(url) == "amqps://rabbit.example:5671/prod"

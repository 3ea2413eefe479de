"""What a publisher can write into an AMQP message and no client can read or no frame can carry."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiormq
import pytest
from aiormq.abc import ChannelFrame
from aiormq.exceptions import InvalidFrameError
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from chassis.bus import Delivery, NoBusMetrics, Subscription, Unpublishable, Verdict
from chassis.bus.history import History
from chassis.bus.rabbitmq import RabbitBus
from chassis.bus.rabbitmq.errors import BodyTooLarge
from chassis.bus.rabbitmq.frames import MendedHeader, content_header, unmarshal
from chassis.bus.rabbitmq.headers import read_headers
from chassis.bus.rabbitmq.messages import (
    Received,
    dead_properties,
    fits,
    replay_properties,
    retry_properties,
)
from chassis.bus.rabbitmq.topology import EXCHANGE
from chassis.contracts.envelope import EnvelopeError
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.chassis.bus.test_bus_conformance import (
    FAILURE,
    SIGNED_UP,
    Replica,
    event,
    letters,
    patient_letters,
)
from tests.chassis.bus_labs import RabbitLab
from tests.waiting import PATIENCE, eventually

NOT_UTF8 = b"\x02\xc1\xff"
NEVER = struct.pack(">Q", 2**63 - 1)
NAMES = ["content_type", "correlation_id", "reply_to", "expiration", "message_id", "message_type"]


class Raw(Basic.Properties):
    """Properties in bytes of one's own."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(message_id="unused")
        self.raw = raw

    def marshal(self) -> bytes:
        return self.raw


def properties(**parts: bytes) -> bytes:
    """The bytes of properties, by name, in the order of AMQP."""
    flags = sum(Basic.Properties.flags[name] for name in parts)
    ordered = [parts[name] for name in Basic.Properties.__slots__ if name in parts]
    return struct.pack(">H", flags) + b"".join(ordered)


def table(*entries: tuple[bytes, bytes]) -> bytes:
    raw = b"".join(bytes([len(key)]) + key + value for key, value in entries)
    return struct.pack(">I", len(raw)) + raw


def text(value: str) -> bytes:
    return b"S" + struct.pack(">I", len(value)) + value.encode()


def nested(depth: int) -> bytes:
    raw = table()
    for _ in range(depth):
        raw = table((b"t", b"F" + raw))
    return b"F" + raw


OF_AN_EVENT = [
    (b"cloudEvents:specversion", text("1.0")),
    (b"cloudEvents:id", text("odd")),
    (b"cloudEvents:source", text("elsewhere")),
    (b"cloudEvents:type", text(SIGNED_UP)),
]
UNREADABLE = {
    name: properties(headers=table(*OF_AN_EVENT), **{name: NOT_UTF8})
    for name in NAMES
    if name != "expiration"
} | {
    "timestamp": properties(headers=table(*OF_AN_EVENT), timestamp=NEVER),
    "header time": properties(headers=table(*OF_AN_EVENT, (b"t", b"T" + NEVER))),
    "header name": properties(headers=table(*OF_AN_EVENT, (b"\xc1\xff", text("x")))),
    "header in a table": properties(
        headers=table(*OF_AN_EVENT, (b"t", b"F" + table((b"\xc1\xff", text("x")))))
    ),
    "header too deep": properties(headers=table(*OF_AN_EVENT, (b"deep", nested(2000)))),
}


class Reconnects(NoBusMetrics):
    count = 0

    def reconnected(self) -> None:
        self.count += 1


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[RabbitLab]:
    node = await asyncio.to_thread(shared_rabbitmq)
    with node.vhost(tmp_path.name) as url:
        yield RabbitLab(url, node.server)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def publish_raw(lab: RabbitLab, raw: bytes, body: bytes = b"odd") -> None:
    async with aiormq.connect(lab.url) as connection:
        channel = await connection.channel()
        await channel.basic_publish(
            body, exchange=EXCHANGE, routing_key=SIGNED_UP, properties=Raw(raw)
        )


async def running(
    lab: RabbitLab, stack: AsyncExitStack, settle: Callable[[Delivery], Awaitable[None]]
) -> tuple[RabbitBus, Reconnects]:
    reconnects = Reconnects()
    bus = RabbitBus(lab.url, name="billing-svc", metrics=reconnects)
    bus.subscribe(Subscription("billing-svc", frozenset({SIGNED_UP})), settle)
    stack.push_async_callback(bus.close)
    await bus.start()
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)
    return bus, reconnects


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_message_that_no_client_can_read_ends_once_in_the_dead_letters(
    lab: RabbitLab, stack: AsyncExitStack, what: str
) -> None:
    async def settle(delivery: Delivery) -> None:
        try:
            handled.append((delivery.body, delivery.envelope().id))
            delivery.done()
        except EnvelopeError as error:
            why.append(str(error))
            await delivery.dead(FAILURE)

    handled: list[tuple[bytes, str]] = []
    why: list[str] = []
    bus, reconnects = await running(lab, stack, settle)
    await publish_raw(lab, UNREADABLE[what])
    for number in range(20):
        await bus.publish(event(b"%d" % number, id_=f"e-{number}"))
    await eventually(lambda: len(handled) == 20)
    (letter,) = await patient_letters(lab, 1)
    assert what.split(maxsplit=1)[0] in why[0]
    assert (letter.body, letter.headers["cloudEvents:id"], len(why)) == (b"odd", "odd", 1)
    assert reconnects.count == 0
    await letters(lab, "billing-svc", Verdict.REPLAY)
    await eventually(lambda: (b"odd", "odd") in handled)
    assert await letters(lab, "billing-svc") == []


async def test_an_unreadable_message_in_the_dead_letters_can_be_shown_and_discarded(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    await running(lab, stack, lambda delivery: delivery.dead(FAILURE))  # type: ignore[arg-type, return-value]
    async with aiormq.connect(lab.url) as connection:
        channel = await connection.channel()
        for what, raw in UNREADABLE.items():
            await channel.basic_publish(
                what.encode(), routing_key="billing-svc.dead", properties=Raw(raw)
            )
    assert len(await letters(lab, "billing-svc", Verdict.DISCARD)) == len(UNREADABLE)
    assert await letters(lab, "billing-svc") == []


async def test_a_key_that_no_client_can_read_is_delivered(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab, types=None, mode="every_replica"))
    async with aiormq.connect(lab.url) as connection:
        channel = await connection.channel()
        frame = marshal(Basic.Publish(exchange=EXCHANGE, routing_key="keys"), channel.number)
        head = marshal(ContentHeader(body_size=0), channel.number)
        payload = frame.replace(b"keys", b"\xc1\xff\xc1\xff") + head
        await connection.write_queue.put(ChannelFrame(payload, should_close=False))
        await replica.until(1)


async def test_headers_that_fill_a_frame_leave_room_for_the_reason(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    async def settle(delivery: Delivery) -> None:
        try:
            await delivery.later(0, counted=True)
        except Unpublishable:
            await delivery.dead(FAILURE)

    _, reconnects = await running(lab, stack, settle)
    await publish_raw(lab, properties(headers=table(*OF_AN_EVENT, (b"long", text("x" * 130_750)))))
    (letter,) = await patient_letters(lab, 1)
    assert (letter.failure.reason, letter.headers["cloudEvents:id"]) == (FAILURE.reason, "odd")
    assert "long" not in letter.headers
    assert reconnects.count == 0


async def test_a_body_that_the_broker_takes_no_more_is_cut_in_the_dead_letters(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    async def settle(delivery: Delivery) -> None:
        # An operator lowered the limit since:
        bus._link._proven_size, bus._link._size_limit = -1, 3  # type: ignore[union-attr]
        try:
            await delivery.later(0, counted=True)
        except Unpublishable:
            await delivery.dead(FAILURE)

    bus, reconnects = await running(lab, stack, settle)
    await bus.publish(event(b"123456"))
    (letter,) = await patient_letters(lab, 1)
    assert (letter.body, letter.failure.reason) == (b"123", FAILURE.reason)
    assert "only 3 of 6 bytes" in letter.failure.message
    assert reconnects.count == 0


async def test_only_the_event_that_is_too_large_is_refused(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    reconnects = Reconnects()
    bus = RabbitBus(lab.url, name="publisher", metrics=reconnects)
    stack.push_async_callback(bus.close)
    await bus.start()
    await bus.wait_ready()
    replica = await stack.enter_async_context(Replica(lab, prefetch=100))
    small = [event(b"%d" % number, id_=f"e-{number}") for number in range(50)]
    messages = [*small[:25], event(b"x" * 5_000_000, id_="large"), *small[25:]]
    ended = await asyncio.gather(*map(bus.publish, messages), return_exceptions=True)
    assert [type(end) for end in ended if end is not None] == [BodyTooLarge]
    await eventually(lambda: set(replica.bodies) == {message.body for message in small})
    assert reconnects.count == 0


SHORT = st.binary(max_size=255).map(lambda raw: bytes([len(raw)]) + raw)
KEYS = st.binary(max_size=20)
VALUES = st.one_of(
    st.binary(max_size=30).map(lambda raw: b"S" + struct.pack(">I", len(raw)) + raw),
    st.binary(max_size=30).map(lambda raw: b"x" + struct.pack(">I", len(raw)) + raw),
    st.binary(min_size=8, max_size=8).flatmap(
        lambda raw: st.sampled_from([kind + raw for kind in (b"l", b"L", b"d", b"T")])
    ),
    st.binary(min_size=4, max_size=4).flatmap(
        lambda raw: st.sampled_from([kind + raw for kind in (b"I", b"i", b"f")])
    ),
    st.binary(min_size=5, max_size=5).map(lambda raw: b"D" + raw),
    st.binary(min_size=2, max_size=2).map(lambda raw: b"s" + raw),
    st.binary(min_size=1, max_size=1).map(lambda raw: b"b" + raw),
    st.just(b"V"),
)
TABLES = st.recursive(
    VALUES,
    lambda inner: st.one_of(
        st.lists(st.tuples(KEYS, inner), max_size=4).map(lambda entries: b"F" + table(*entries)),
        st.lists(inner, max_size=4).map(
            lambda items: b"A" + struct.pack(">I", sum(map(len, items))) + b"".join(items)
        ),
    ),
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(NAMES, SHORT)
    | {
        "timestamp": st.binary(min_size=8, max_size=8),
        "headers": st.lists(st.tuples(KEYS, TABLES), max_size=5).map(lambda items: table(*items)),
    },
).map(lambda parts: properties(**parts))


@given(raw=PROPERTIES)
def test_whatever_a_publisher_writes_is_read_and_can_be_moved(raw: bytes) -> None:
    head = unmarshal(marshal(ContentHeader(body_size=1, properties=Raw(raw)), 1))[2]
    assert isinstance(head, ContentHeader)
    received = Received(head.properties.headers or {}, b"x", head.properties, EXCHANGE, SIGNED_UP)
    for moved in (
        retry_properties(received, History(2)),
        dead_properties(received, "billing-svc", FAILURE),
        replay_properties(received),
    ):
        again = unmarshal(marshal(ContentHeader(body_size=1, properties=moved), 1))[2]
        assert isinstance(again, ContentHeader)
        assert not isinstance(again, MendedHeader)
        assert fits(moved, 2**31)


@given(raw=PROPERTIES, cut=st.integers(0, 40))
def test_headers_are_read_as_a_client_reads_them_or_refused(raw: bytes, cut: int) -> None:
    header = struct.pack(">HHQ", 60, 0, 1) + raw[: max(0, len(raw) - cut)]
    try:
        expected = content_header(header)
    except InvalidFrameError:
        with pytest.raises(InvalidFrameError):
            read_headers(header)
        return
    received = Received(*_inserted(read_headers(header)))
    assert repr(received.headers) == repr(expected.properties.headers or {})
    assert repr(dict(received.properties)) == repr(dict(expected.properties))
    assert received.content_type == expected.properties.content_type
    assert bool(received.unreadable) == isinstance(expected, MendedHeader)


def _inserted(
    read: tuple[Mapping[str, object], bytes | Basic.Properties, str],
) -> tuple[Mapping[str, object], bytes, bytes | Basic.Properties, str, str, str]:
    headers, encoded, unreadable = read
    return headers, b"x", encoded, EXCHANGE, SIGNED_UP, unreadable


@given(raw=st.binary(max_size=200))
def test_a_frame_is_read_or_refused(raw: bytes) -> None:
    frame = struct.pack(">BHI", 2, 1, len(raw)) + raw + b"\xce"
    try:
        unmarshal(frame)
    except InvalidFrameError:
        return

"""Deliveries from their frames, however these arrive: without a broker."""

import asyncio
from datetime import UTC, datetime

from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.commands import Channel as ChannelMethods
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from chassis.bus.rabbitmq.deliveries import Deliveries
from chassis.bus.rabbitmq.messages import Received
from chassis.bus.rabbitmq.transport import HEARTBEAT, Wire

HEADERS = {"cloudEvents:id": "e-1", "x-delivery-count": 2**40}
PROPERTIES = Basic.Properties(
    content_type="application/protobuf",
    headers=HEADERS,  # type: ignore[arg-type] # a table of strings and numbers
    message_id="e-1",
    timestamp=datetime(2026, 1, 2, tzinfo=UTC),
)


class Bench:
    """A wire whose channels 3 and 4 consume."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(loop=loop)
        self.wire = Wire(self.reader, loop)
        self.taken: list[tuple[int, int, str, str, bytes]] = []
        self.received: list[Received] = []
        for channel in (3, 4):
            self.wire.watch(channel, Deliveries(self._taker(channel)).watch)

    def _taker(self, channel: int):  # type: ignore[no-untyped-def] # a closure
        def take(tag: int, received: Received) -> None:
            self.received.append(received)
            self.taken.append(
                (channel, tag, received.exchange, received.routing_key, received.body)
            )

        return take

    def passed_on(self) -> bytes:
        """What aiormq can read, without signs of life."""
        return bytes(self.reader._buffer).replace(HEARTBEAT, b"")  # type: ignore[attr-defined]


def frames(tag: int, *parts: bytes, channel: int = 3) -> list[bytes]:
    header = ContentHeader(0, sum(map(len, parts)), PROPERTIES)
    deliver = Basic.Deliver("consumer", tag, exchange="events", routing_key="acme.v1.A")
    return [marshal(each, channel) for each in (deliver, header, *map(ContentBody, parts))]  # type: ignore[arg-type]


def test_deliveries_are_taken_however_they_are_cut_and_the_rest_goes_on() -> None:
    async def scene() -> None:
        others = [marshal(Basic.CancelOk("consumer"), 3), marshal(Basic.Ack(1), 9)]
        stream = b"".join(
            [
                *frames(1, b"whole"),
                others[0],
                *frames(2, b"in ", b"three ", b"parts"),
                *frames(3),
                others[1],
            ]
        )
        for cut in range(len(stream)):
            bench = Bench()
            bench.wire.data_received(stream[:cut])
            bench.wire.data_received(stream[cut:])
            assert bench.taken == [
                (3, 1, "events", "acme.v1.A", b"whole"),
                (3, 2, "events", "acme.v1.A", b"in three parts"),
                (3, 3, "events", "acme.v1.A", b""),
            ]
            assert bench.passed_on() == b"".join(others)

    asyncio.run(scene())


def test_a_delivery_is_taken_byte_by_byte() -> None:
    async def scene() -> None:
        bench = Bench()
        for byte in b"".join(frames(1, b"a", b"b")):
            bench.wire.data_received(bytes([byte]))
        assert [each[-1] for each in bench.taken] == [b"ab"]

    asyncio.run(scene())


def test_deliveries_of_two_channels_may_alternate_frame_by_frame() -> None:
    async def scene() -> None:
        bench = Bench()
        third, fourth = frames(1, b"a", b"b"), frames(7, b"c", b"d", channel=4)
        for one, other in zip(third, fourth, strict=True):
            bench.wire.data_received(one + other)
        assert [(each[0], each[1], each[-1]) for each in bench.taken] == [
            (3, 1, b"ab"),
            (4, 7, b"cd"),
        ]

    asyncio.run(scene())


def test_a_delivery_that_a_closing_channel_cuts_short_is_forgotten() -> None:
    async def scene() -> None:
        bench = Bench()
        close = marshal(ChannelMethods.Close(406, "PRECONDITION_FAILED", 0, 0), 3)
        bench.wire.data_received(b"".join([*frames(1, b"half ", b"lost")[:-1], close]))
        bench.wire.data_received(b"".join(frames(2, b"next")))
        assert [each[-1] for each in bench.taken] == [b"next"]
        assert bench.passed_on() == close

    asyncio.run(scene())


def test_a_frame_that_cannot_be_read_goes_on_to_aiormq_which_ends_the_connection() -> None:
    async def scene() -> None:
        bench = Bench()
        deliver, _, _ = frames(1, b"x")
        broken = b"\x02\x00\x03\x00\x00\x00\x02\x00\x3c\xce"
        bench.wire.data_received(deliver + broken)
        assert bench.passed_on() == broken
        assert bench.taken == []

    asyncio.run(scene())


def test_a_name_that_is_not_utf_8_is_shown_with_question_marks() -> None:
    async def scene() -> None:
        bench = Bench()
        deliver, *rest = frames(1, b"x")
        bench.wire.data_received(deliver.replace(b"acme", b"ac\xc1\xff") + b"".join(rest))
        assert bench.taken[0][3] == "ac??.v1.A"

    asyncio.run(scene())


def test_the_properties_of_an_event_stay_encoded_until_they_are_read() -> None:
    async def scene() -> None:
        bench = Bench()
        bench.wire.data_received(b"".join(frames(1, b"x")))
        (received,) = bench.received
        assert isinstance(received.encoded, bytes)
        assert (received.headers, received.content_type) == (HEADERS, PROPERTIES.content_type)
        assert dict(received.properties) == dict(PROPERTIES)

    asyncio.run(scene())

"""The socket that is shared with aiormq, and the confirms of publishes: without a broker."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
import uvloop
from aiormq.channel import Channel
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.commands import Channel as ChannelMethods
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from chassis.bus import BusUnavailable
from chassis.bus.rabbitmq.confirms import CONFIRM_SECONDS, Confirms
from chassis.bus.rabbitmq.errors import QueueMissing
from chassis.bus.rabbitmq.transport import HEARTBEAT, Wire
from tests import clock

PUBLISHING = 7
FRAME_MAX = 4096
PROPERTIES = Basic.Properties(message_id="e-1").marshal()


class Socket(asyncio.Transport):
    """Keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return False


class FakeChannel:
    def __init__(self, number: int) -> None:
        self.number = number
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_closed(self) -> bool:
        return self.closing.done()


class Bench:
    """A wire without a broker: a test plays the broker."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(loop=loop)
        self.wire = Wire(self.reader, loop)
        self.socket = Socket()
        self.wire.connection_made(self.socket)
        self.channel = FakeChannel(PUBLISHING)
        self.confirms = Confirms(self.wire, cast("Channel", self.channel), FRAME_MAX)

    def say(self, *frames: object, channel: int = PUBLISHING) -> None:
        """As the broker."""
        self.wire.data_received(b"".join(raw(frame, channel) for frame in frames))

    async def publish(
        self, key: str = "a", id_: str | None = None, *, mandatory: bool = False, body: bytes = b"b"
    ) -> "asyncio.Task[None]":
        """A publish on its way."""
        publishing = asyncio.create_task(
            self.confirms.publish("", key, PROPERTIES, body, message_id=id_, mandatory=mandatory)
        )
        await asyncio.sleep(0)
        return publishing

    def passed_on(self) -> bytes:
        """What aiormq can read, without signs of life."""
        read = bytes(self.reader._buffer)  # type: ignore[attr-defined]
        self.reader._buffer.clear()  # type: ignore[attr-defined]
        return read.replace(HEARTBEAT, b"")


def raw(frame: object, channel: int) -> bytes:
    return pamqp_frame.marshal(frame, channel)  # type: ignore[arg-type]


def returned(key: str, id_: str | None) -> list[object]:
    return [
        Basic.Return(312, "NO_ROUTE", "", key),
        ContentHeader(0, 1, Basic.Properties(message_id=id_)),
        ContentBody(b"b"),
    ]


async def outcome(publishing: "asyncio.Task[None]") -> type[BaseException] | None:
    """How a publish ended that has its answer."""
    done, _ = await asyncio.wait([publishing], timeout=1)
    assert done, "it has no answer"
    error = publishing.exception()
    return None if error is None else type(error)


def test_a_publish_is_one_write_whose_frames_a_client_reads() -> None:
    async def scene() -> None:
        bench = Bench()
        body = b"x" * (2 * FRAME_MAX)
        await bench.publish("key", body=body)
        await asyncio.sleep(0)
        (written,) = bench.socket.writes
        frames = []
        while written:
            size, channel, frame = pamqp_frame.unmarshal(written)
            assert channel == PUBLISHING
            assert size <= FRAME_MAX
            frames.append(frame)
            written = written[size:]
        method, header, *parts = frames
        assert isinstance(method, Basic.Publish)
        assert (method.exchange, method.routing_key, method.mandatory) == ("", "key", False)
        assert isinstance(header, ContentHeader)
        assert (header.body_size, header.properties.message_id) == (len(body), "e-1")
        assert b"".join(cast("ContentBody", part).value for part in parts) == body

    asyncio.run(scene())


def test_publishes_of_one_tick_are_one_write() -> None:
    async def scene() -> None:
        bench = Bench()
        for _ in range(3):
            bench.wire.send(b"frame")
        await asyncio.sleep(0)
        assert bench.socket.writes == [b"frame" * 3]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("confirms", "ended"),
    [
        ([Basic.Ack(2)], [False, True, False]),
        ([Basic.Ack(2, multiple=True)], [True, True, False]),
        ([Basic.Ack(3), Basic.Ack(2, multiple=True)], [True, True, True]),
        ([Basic.Ack(2), Basic.Ack(2, multiple=True)], [True, True, False]),
        ([Basic.Ack(0, multiple=True)], [True, True, True]),
    ],
)
def test_a_confirm_ends_one_publish_or_all_up_to_it(
    confirms: list[Basic.Ack], ended: list[bool]
) -> None:
    async def scene() -> None:
        bench = Bench()
        publishes = [await bench.publish() for _ in range(3)]
        bench.say(*confirms)
        for publish, has_ended in zip(publishes, ended, strict=True):
            if has_ended:
                assert await outcome(publish) is None
            assert publish.done() == has_ended

    asyncio.run(scene())


def test_a_refused_publish_is_not_confirmed() -> None:
    async def scene() -> None:
        bench = Bench()
        publishes = [await bench.publish() for _ in range(2)]
        bench.say(Basic.Nack(2, multiple=True))
        assert [await outcome(publish) for publish in publishes] == [BusUnavailable] * 2

    asyncio.run(scene())


def test_a_return_ends_its_own_publish_only() -> None:
    async def scene() -> None:
        bench = Bench()
        publishes = [
            await bench.publish("gone", "1", mandatory=True),
            await bench.publish("gone", "2", mandatory=True),
            await bench.publish("there", "1", mandatory=True),
            await bench.publish("gone", "1"),
        ]
        bench.say(*returned("gone", "1"), Basic.Ack(4, multiple=True))
        assert [await outcome(publish) for publish in publishes] == [QueueMissing, None, None, None]

    asyncio.run(scene())


def test_a_return_that_may_mean_two_publishes_loses_neither() -> None:
    async def scene() -> None:
        bench = Bench()
        publishes = [await bench.publish("gone", "1", mandatory=True) for _ in range(2)]
        bench.say(*returned("gone", "1"), Basic.Ack(1))
        bench.say(Basic.Ack(2))
        assert [await outcome(publish) for publish in publishes] == [QueueMissing] * 2

    asyncio.run(scene())


@pytest.mark.parametrize("frames_of", [lambda: [Basic.Ack(1)], lambda: returned("a", None)])
def test_an_answer_is_read_however_it_is_cut(frames_of: Callable[[], list[object]]) -> None:
    async def scene() -> None:
        around = raw(Heartbeat(), 0) + raw(Basic.CancelOk("tag"), 3)
        stream = around + b"".join(raw(frame, PUBLISHING) for frame in [*frames_of(), Basic.Ack(1)])
        stream += around
        for cut in range(len(stream)):
            bench = Bench()
            publish = await bench.publish(mandatory=True)
            bench.wire.data_received(stream[:cut])
            bench.wire.data_received(stream[cut:])
            expected = None if len(frames_of()) == 1 else QueueMissing
            assert await outcome(publish) is expected
            assert bench.passed_on() == (2 * around).replace(HEARTBEAT, b"")

    asyncio.run(scene())


def test_frames_of_other_channels_and_other_methods_go_on_unchanged() -> None:
    async def scene() -> None:
        bench = Bench()
        other = [raw(Basic.Ack(1), 8), raw(Basic.CancelOk("tag"), PUBLISHING), b"AMQP\0\0\x09\x01"]
        for frame in other:
            bench.wire.data_received(frame)
        assert bench.passed_on() == b"".join(other)

    asyncio.run(scene())


def test_aiormq_sees_a_sign_of_life_when_its_frames_are_taken() -> None:
    async def scene() -> None:
        bench = Bench()
        await bench.publish()
        bench.say(Basic.Ack(1))
        assert await bench.reader.readexactly(len(HEARTBEAT)) == HEARTBEAT

    asyncio.run(scene())


def test_a_channel_that_the_broker_closes_takes_no_more_and_ends_its_publishes() -> None:
    async def scene() -> None:
        bench = Bench()
        publish = await bench.publish()
        bench.say(ChannelMethods.Close(406, "PRECONDITION_FAILED", 0, 0))
        late = await bench.publish()
        assert await outcome(late) is BusUnavailable
        bench.channel.closing.set_exception(ConnectionError("too large"))
        with pytest.raises(BusUnavailable, match=r"publishing to a failed.*too large"):
            await publish

    asyncio.run(scene())


def test_a_publish_without_an_answer_ends_in_time() -> None:
    async def scene() -> float:
        bench = Bench()
        loop = asyncio.get_running_loop()
        first = await bench.publish()
        await asyncio.sleep(10)
        second = await bench.publish()
        bench.say(Basic.Ack(2))
        began = loop.time()
        with pytest.raises(BusUnavailable, match="did not answer in time"):
            await first
        await second
        return loop.time() - began

    assert clock.run(scene()) == pytest.approx(CONFIRM_SECONDS - 10)


def test_a_confirm_of_a_publisher_that_went_away_is_no_fault() -> None:
    async def scene() -> None:
        bench = Bench()
        gone, stays = await bench.publish(), await bench.publish()
        gone.cancel()
        await asyncio.wait([gone])
        bench.say(Basic.Ack(2, multiple=True))
        assert await outcome(stays) is None

    asyncio.run(scene())


def test_the_wire_writes_on_the_loop_of_the_services_too() -> None:
    async def scene() -> bytes:
        read: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            read.set_result(await reader.readexactly(5))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        port = server.sockets[0].getsockname()[1]
        transport, wire = await loop.create_connection(
            lambda: Wire(reader, loop), "127.0.0.1", port
        )
        wire.send(b"frame")
        async with asyncio.timeout(5):
            sent = await read
        transport.close()
        server.close()
        return sent

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scene()) == b"frame"

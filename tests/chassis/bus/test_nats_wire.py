"""The socket that is shared with nats-py: without a broker, each test plays the server."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import pytest
import uvloop

from chassis.jetstream.protocol import Wire
from chassis.jetstream.wire import WireClient
from tests.waiting import PATIENCE

ROUTED, OTHER = b"7", b"8"


class Message(NamedTuple):
    subject: bytes
    reply: bytes
    body: bytes
    block: bytes | None = None

    def raw(self, sid: bytes = ROUTED) -> bytes:
        words = [self.subject, sid, *([self.reply] if self.reply else [])]
        block = self.block or b""
        if self.block is not None:
            words.append(b"%d" % len(block))
        words.append(b"%d" % (len(block) + len(self.body)))
        verb = b"MSG" if self.block is None else b"HMSG"
        return b"%b %b\r\n%b%b\r\n" % (verb, b" ".join(words), block, self.body)


MESSAGES = [
    Message(b"events.a", b"$JS.ACK.EVENTS.a.1.2.3.4.5", b"body", b"NATS/1.0\r\na: b\r\n\r\n"),
    Message(b"reply.1", b"", b'{"stream":"EVENTS", "seq":1}'),
    Message(b"events.a", b"", b"", b"NATS/1.0 503\r\n\r\n"),
    Message(b"events.a", b"ack", b""),
    Message(b"looks.like", b"ack", b"MSG events.a 7 3\r\nabc\r\nPING\r\n\r\n"),
    Message(b"odd\x0b\xff\x0c", b"\xfe", b"\r\n\r", b"\xff\r\n: no name\r\nMSG a 7 1\r\n"),
]
CONTROL = [b'INFO {"max_payload":1048576}\r\n', b"PING\r\n", b"+OK\r\n", b"-ERR 'odd MSG a'\r\n"]


class Bench:
    """A wire without a server."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.heard = 0
        self.reader = asyncio.StreamReader()
        self.wire = Wire(self.reader, {ROUTED: self._take}, self._hear)

    def _take(self, subject: bytes, reply: bytes, body: bytes, block: bytes | None) -> None:
        self.got.append(Message(subject, reply, body, block))

    def _hear(self) -> None:
        self.heard += 1

    def passed_on(self) -> bytes:
        """What nats-py can read."""
        read = bytes(self.reader._buffer)  # type: ignore[attr-defined]
        self.reader._buffer.clear()  # type: ignore[attr-defined]
        return read


async def test_messages_are_routed_and_all_else_goes_on_however_the_stream_is_cut() -> None:
    theirs = [*CONTROL, *(message.raw(OTHER) for message in MESSAGES[4:])]
    pairs = zip((message.raw() for message in MESSAGES), theirs, strict=True)
    stream = b"".join(part for pair in pairs for part in pair)
    for cut in range(len(stream)):
        bench = Bench()
        bench.wire.data_received(stream[:cut])
        bench.wire.data_received(stream[cut:])
        assert bench.got == MESSAGES
        assert bench.passed_on() == b"".join(theirs)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_stream_in_tiny_pieces_is_read(size: int) -> None:
    bench = Bench()
    stream = b"".join(message.raw() for message in MESSAGES) + b"".join(CONTROL)
    for at in range(0, len(stream), size):
        bench.wire.data_received(stream[at : at + size])
    assert bench.got == MESSAGES
    assert bench.passed_on() == b"".join(CONTROL)


async def test_a_large_message_is_kept_in_the_pieces_in_which_it_comes() -> None:
    """Joined at each piece, a message of 64 MiB would be copied a thousand times."""
    bench = Bench()
    large = Message(b"events.a", b"ack", b"x" * 1_000_000, b"NATS/1.0\r\n\r\n")
    raw = large.raw()
    pieces = [raw[at : at + 1000] for at in range(0, len(raw), 1000)]
    for piece in pieces[:-1]:
        bench.wire.data_received(piece)
    assert bench.wire._parts == pieces[:-1]
    bench.wire.data_received(pieces[-1] + MESSAGES[0].raw())
    assert bench.got == [large, MESSAGES[0]]


async def test_only_messages_count_as_a_sign_of_life() -> None:
    bench = Bench()
    bench.wire.data_received(b"PING\r\n" + MESSAGES[0].raw(OTHER))
    assert bench.heard == 0
    bench.wire.data_received(MESSAGES[0].raw() + MESSAGES[1].raw())
    assert bench.heard == 1


@pytest.mark.parametrize("line", [b"MSG\r\n", b"MSG a 7 many\r\n", b"HMSG a 7 x 9\r\n", b"\0\r\n"])
async def test_what_is_no_message_goes_on_to_nats_py(line: bytes) -> None:
    bench = Bench()
    bench.wire.data_received(MESSAGES[0].raw() + line)
    assert bench.got == [MESSAGES[0]]
    assert bench.passed_on() == line


async def test_the_beginning_of_a_message_is_dropped_with_its_connection() -> None:
    bench = Bench()
    bench.wire.data_received(MESSAGES[0].raw() + MESSAGES[1].raw()[:-1])
    bench.wire.eof_received()
    assert bench.got == [MESSAGES[0]]
    assert await bench.reader.read() == b""


class Server:
    """Speaks as much of the protocol as a client needs to subscribe."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(b'INFO {"max_payload":1048576,"version":"2.12.0","headers":true}\r\n')
        while line := await reader.readline():
            self.lines.append(line)
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")


async def cut_off() -> None:
    playing = Server()
    server = await asyncio.start_server(playing, "127.0.0.1", 0)
    got: list[Message] = []
    both_came, lost = asyncio.Event(), asyncio.Event()

    def take(subject: bytes, reply: bytes, body: bytes, block: bytes | None) -> None:
        got.append(Message(subject, reply, body, block))
        if len(got) == 2:
            both_came.set()

    async def on_loss() -> None:
        lost.set()

    client = WireClient()
    port = server.sockets[0].getsockname()[1]
    await client.connect(f"nats://127.0.0.1:{port}", disconnected_cb=on_loss)
    try:
        await client.route("events.>", take)
        (subscribed,) = (line for line in playing.lines if line.startswith(b"SUB"))
        first, second, cut = (message.raw(subscribed.split()[-1]) for message in MESSAGES[:3])
        (writer,) = playing.writers
        writer.write(first + b"PING\r\n" + second[:5])
        writer.write(second[5:] + cut[:-1])
        await asyncio.wait_for(both_came.wait(), PATIENCE)
        writer.close()
        await asyncio.wait_for(lost.wait(), PATIENCE)
    finally:
        server.close()
        await client.discard()
        for writer in playing.writers:
            writer.close()
    assert got == MESSAGES[:2]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_message_cut_off_by_the_end_of_its_connection_is_not_routed(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(cut_off())

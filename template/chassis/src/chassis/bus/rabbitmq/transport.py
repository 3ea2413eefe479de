"""The socket of a connection, shared with aiormq.

aiormq makes an object, a queue entry and log calls of each frame, and a task of each message. The
frames of a watched channel go to its watcher instead, and `send` writes past aiormq. Each other
frame goes on to aiormq, byte for byte and in order. Knows frames; knows no message.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - an exception is named as one
from typing import Any, cast

from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp.constants import FRAME_END, FRAME_HEARTBEAT
from yarl import URL

Watcher = Callable[[int, bytes], bool]
"""Gets kind and payload of a frame; True if the frame is not for aiormq.

Raises InvalidFrameError, IndexError or StructError if it cannot read the frame, and nothing else.
"""

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
TOLD_SECONDS = 1.0
"""Between two signs of life for aiormq: the broker sends no heartbeat while it sends frames."""

FRAME = Struct(">BHI")
OVERHEAD = FRAME.size + 1
"""Bytes of a frame around its payload."""


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return b"%b%b\xce" % (FRAME.pack(kind, channel, len(payload)), payload)


@lru_cache(maxsize=1024)
def short_string(text: str) -> bytes:
    """A name in AMQP. Raises ValueError if it has more than 255 bytes."""
    raw = text.encode()
    if len(raw) > 255:
        raise ValueError(f"{text[:80]}… is too long for a name in AMQP: at most 255 bytes")
    return b"%c%b" % (len(raw), raw)


class Wire(asyncio.StreamReaderProtocol):
    """What aiormq reads from."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self._clock = loop.time
        self._soon = loop.call_soon
        self._watchers: dict[int, Watcher] = {}
        self._rest = b""
        self._told = 0.0
        self._unsent: list[bytes] = []
        self._socket: asyncio.WriteTransport

    def watch(self, channel: int, watcher: Watcher) -> None:
        """Give the frames of `channel` to `watcher`."""
        self._watchers[channel] = watcher

    def forget(self, channel: int, watcher: Watcher) -> None:
        """End what `watch` began. The number may belong to another channel already."""
        if self._watchers.get(channel) == watcher:
            del self._watchers[channel]

    def send(self, frames: bytes) -> None:
        """Write whole frames, with all others of this tick of the loop."""
        if not self._unsent:
            self._soon(self._flush)
        self._unsent.append(frames)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._socket = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, end, passed, taken = 0, len(data), 0, False
        watchers, start = self._watchers, FRAME.unpack_from
        while end - at >= OVERHEAD:
            kind, channel, size = start(data, at)
            if kind > FRAME_HEARTBEAT:  # not a frame: aiormq says what it is
                at = end
                break
            stop = at + size + OVERHEAD
            if stop > end:
                break
            watcher = watchers.get(channel)
            if (
                watcher is not None
                and data[stop - 1] == FRAME_END
                and _taken(watcher, kind, data[at + FRAME.size : stop - 1])
            ):
                taken = True
                if passed < at:
                    super().data_received(data[passed:at])
                passed = stop
            at = stop
        if passed < at:
            super().data_received(data[passed:at])
        self._rest = data[at:]
        if taken and self._clock() - self._told > TOLD_SECONDS:
            self._told = self._clock()
            super().data_received(HEARTBEAT)

    def eof_received(self) -> bool | None:
        super().data_received(self._rest)
        return super().eof_received()

    def _flush(self) -> None:
        frames, self._unsent = b"".join(self._unsent), []
        if not self._socket.is_closing():
            self._socket.write(frames)


def _taken(watcher: Watcher, kind: int, payload: bytes) -> bool:
    """A frame that its watcher cannot read goes on to aiormq, which ends the connection."""
    try:
        return watcher(kind, payload)
    except (InvalidFrameError, IndexError, StructError):
        return False


class WireFactory(TransportFactory):
    """Makes the one transport of a connection; `wire` is there then."""

    wire: Wire

    async def create(
        self,
        url: URL,
        **kwargs: Any,  # the types of aiormq
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = await kwargs["ssl_context_provider"].get_context() if _is_tls(url) else None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=kwargs["limit"], loop=loop)
        self.wire = Wire(reader, loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: self.wire, url.host or "", url.port or 0, ssl=context
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        return reader, asyncio.StreamWriter(transport, self.wire, reader, loop)


def _is_tls(url: URL) -> bool:
    return url.scheme == "amqps"

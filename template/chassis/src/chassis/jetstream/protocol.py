"""The socket of a connection, shared with nats-py.

nats-py tries regular expressions on a growing buffer for each message, and makes an object, a queue
entry and a dictionary of it. Messages of a route go to the route instead, straight from the socket.
All else goes on to nats-py, byte for byte and in order. Knows the protocol's lines; knows no
JetStream.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import ParseResult

from nats.aio.transport import Transport

OnMessage = Callable[[bytes, bytes, bytes, "bytes | None"], None]
"""Takes subject, reply subject, body and header block (None: no headers). Must not raise."""

Routes = Mapping[bytes, OnMessage]
"""What takes the messages of a subscription, by the subscription's number."""

_LINE_END = b"\r\n"


class Wire(asyncio.StreamReaderProtocol):
    """What nats-py reads from. `on_heard` runs whenever messages were routed."""

    def __init__(
        self, reader: asyncio.StreamReader, routes: Routes, on_heard: Callable[[], None]
    ) -> None:
        super().__init__(reader)
        self._routes = routes
        self._on_heard = on_heard
        self._parts: list[bytes] = []
        self._missing = 0
        """How many more bytes the message needs whose beginning is in `_parts`."""

    def data_received(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:  # joined once, so a large message is not copied again and again
                return
            data = b"".join(self._parts)
            self._parts.clear()
        at = self._take(data)
        if at < len(data):
            self._parts.append(data[at:] if at else data)

    def _take(self, data: bytes) -> int:
        """Route whole messages and pass on whole lines. Returns where the incomplete rest begins.

        A message is `MSG <subject> <sid> [reply] <size>`, a line end, a body and a line end.
        `HMSG` has the size of the headers, and of headers and body, and both follow.
        """
        at = passed = 0
        end, find, routes = len(data), data.find, self._routes
        heard = False
        self._missing = 1
        while (line_end := find(_LINE_END, at)) >= 0:
            begin = line_end + 2
            words = data[at:line_end].split(b" ")
            has_headers = words[0] == b"HMSG"
            if not has_headers and words[0] != b"MSG":
                at = begin
                continue
            try:
                body_end = begin + int(words[-1])
                body = begin + int(words[-2]) if has_headers else begin
                route = routes.get(words[2])
            except (ValueError, IndexError):  # nats-py says what it is, and ends the connection
                at = end
                break
            if body_end + 2 > end:
                self._missing = body_end + 2 - end
                break
            if route is not None:
                if passed < at:
                    super().data_received(data[passed:at])
                passed = body_end + 2
                heard = True
                route(
                    words[1],
                    words[3] if len(words) > 4 + has_headers else b"",
                    data[body:body_end],
                    data[begin:body] if has_headers else None,
                )
            at = body_end + 2
        if passed < at:
            super().data_received(data[passed:at])
        if heard:
            self._on_heard()
        return at


class WireTransport(Transport):
    """What nats-py connects, reads and writes with."""

    def __init__(self, routes: Routes, on_heard: Callable[[], None]) -> None:
        self._routes = routes
        self._on_heard = on_heard
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None
        self._plain: asyncio.StreamWriter | None = None

    def __bool__(self) -> bool:
        """True, or nats-py puts a transport of its own in this one's place."""
        return True

    @property
    def used(self) -> bool:
        """Whether there is a connection, or was one."""
        return self._writer is not None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        loop = asyncio.get_running_loop()
        wire = self._wire(buffer_size)
        async with asyncio.timeout(connect_timeout):
            transport, _ = await loop.create_connection(
                lambda: wire, uri.hostname or "", uri.port or 0
            )
        self._writer = asyncio.StreamWriter(transport, wire, self._reader, loop)

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """Go on with TLS on the connection that is there."""
        loop = asyncio.get_running_loop()
        name = uri if isinstance(uri, str) else uri.hostname
        self._plain = self._connected()  # kept: a writer that is collected closes its socket
        wire = self._wire(buffer_size)
        async with asyncio.timeout(connect_timeout):
            transport = await loop.start_tls(
                self._plain.transport, wire, ssl_context, server_hostname=name
            )
        if transport is None:
            raise OSError("the connection closed during the TLS handshake")
        self._writer = asyncio.StreamWriter(transport, wire, self._reader, loop)

    def write(self, payload: bytes) -> None:
        self._connected().write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        self._connected().write(b"".join(payload))

    async def read(self, buffer_size: int) -> bytes:
        return await self._reader.read(buffer_size)

    async def readline(self) -> bytes:
        return await self._reader.readline()

    async def drain(self) -> None:
        await self._connected().drain()

    async def wait_closed(self) -> None:
        if self._writer is not None:
            await self._writer.wait_closed()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    def _wire(self, buffer_size: int) -> Wire:
        self._reader = asyncio.StreamReader(limit=buffer_size)
        return Wire(self._reader, self._routes, self._on_heard)

    def _connected(self) -> asyncio.StreamWriter:
        if self._writer is None:
            raise OSError("not connected")
        return self._writer

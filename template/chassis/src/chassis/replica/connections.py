"""Connections of an HTTP server, bounded in number and in the time for a request's header.

Knows bytes and the end of a header; knows no path and no answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

HEADER_SECONDS = 10.0
"""Time for a whole header, from the connection's start or the request's first byte."""
MOST = 100
"""More connections than this at a time are closed at once; probes and scrapes need a handful."""

_END_OF_HEADER = b"\r\n\r\n"


@dataclass(slots=True)
class Bounds:
    """Makes protocols that hold a server's connections to its bounds; `inner` serves them."""

    inner: Callable[[], asyncio.Protocol]
    open: set[asyncio.Protocol] = field(default_factory=set)

    def __call__(self) -> asyncio.Protocol:
        return _Bounded(self)


class _Bounded(asyncio.Protocol):
    """Hands everything on to the protocol that serves the connection."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The port serves TCP. The transports of uvloop are none of asyncio's classes.
        transport = cast(asyncio.Transport, transport)
        if len(self._bounds.open) >= MOST:
            transport.abort()
            return
        self._bounds.open.add(self)
        self._transport = transport
        self._inner = self._bounds.inner()
        self._inner.connection_made(transport)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            return
        seen = self._tail + data
        _, end, rest = seen.rpartition(_END_OF_HEADER)
        if end and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if rest and self._deadline is None:
            self._expect_header()
        self._tail = rest[-3:]  # an end may come in two pieces
        self._inner.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.open.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def _expect_header(self) -> None:
        if self._transport is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(HEADER_SECONDS, self._transport.abort)

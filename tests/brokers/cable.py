"""A TCP connection to a server that a test can cut, slow down, or whose answers it can hold up."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit, urlunsplit

from tests.brokers.process import free_port

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing drops what was not sent and resets the connection."""


class Cable:
    """Forwards `port` of 127.0.0.1 to `target` until it is cut; `mend` lets connections through.

    Between `hold` and `let_go` the server hears the client, but the client hears nothing. `delay`:
    seconds that each byte is under way, in both directions.
    """

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self.port = free_port()
        self._delay = delay
        self._target = target
        self._whole = True
        self._ends: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._answering = asyncio.Event()
        self._answering.set()
        self._open = asyncio.Event()
        self._open.set()

    def through(self, url: str) -> str:
        """`url` of the target as it is called through this cable."""
        parts = urlsplit(url)
        return urlunsplit(
            parts._replace(netloc=parts.netloc.replace(f":{self._target}", f":{self.port}"))
        )

    def lead_to(self, target: int) -> None:
        """Connect new connections to another port. The others stay, as after a failover."""
        self._target = target

    def cut(self) -> None:
        """Break every connection without a farewell; new ones are broken as well."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def mend(self) -> None:
        self._whole = True

    def hold(self) -> None:
        """Keep the server's answers back from now on."""
        asyncio.run_coroutine_threadsafe(self._hold(), self._loop).result()

    def let_go(self) -> None:
        """Forward the answers that were kept back, and all others."""
        self._loop.call_soon_threadsafe(self._answering.set)

    @contextmanager
    def laid(self) -> Iterator["Cable"]:
        thread = Thread(target=self._loop.run_forever, name=f"cable-{self.port}", daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connect, "127.0.0.1", self.port), self._loop
        ).result()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(server.close)
            self.cut()
            asyncio.run_coroutine_threadsafe(self._rest(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _connect(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        if not self._whole:
            to_near.transport.abort()
            return
        try:
            far, to_far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            to_near.transport.abort()
            return
        self._ends |= {to_near, to_far}
        try:
            await asyncio.gather(
                _forward(near, to_far, self._open, self._delay),
                _forward(far, to_near, self._answering, self._delay),
            )
        finally:
            self._ends -= {to_near, to_far}
            for end in (to_near, to_far):
                end.transport.abort()

    async def _hold(self) -> None:
        self._answering.clear()

    async def _cut(self) -> None:
        self._whole = False
        self._answering.set()
        for end in self._ends:
            connection = end.get_extra_info("socket")
            if connection.fileno() >= 0:  # else it has ended by itself just now
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()

    @staticmethod
    async def _rest() -> None:
        """Let what was broken find out."""
        forwarding = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*forwarding, return_exceptions=True)


async def _forward(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    through: asyncio.Event,
    delay: float,
) -> None:
    with suppress(OSError):  # a broken connection is what this is for
        while chunk := await source.read(_CHUNK):
            await through.wait()
            if delay:
                asyncio.get_running_loop().call_later(delay, sink.write, chunk)
                continue
            sink.write(chunk)
            await sink.drain()
    await asyncio.sleep(delay)
    if sink.can_write_eof() and not sink.transport.is_closing():
        with suppress(OSError):
            sink.write_eof()

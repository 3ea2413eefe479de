"""One replica, run as in production and judged from outside: by probes, metrics and exit code.

Knows a program and an HTTP port; knows no bus, no store and no handler.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp

from chassis.tools import scrape

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.1
_CLOSE_SECONDS = 15.0


class SmokeFailed(Exception):
    """The replica did not do what it must; the message says what."""


class Replica:
    """A running replica. `patience` is how many seconds each expectation may take."""

    def __init__(
        self, process: asyncio.subprocess.Process, http: aiohttp.ClientSession, patience: float
    ) -> None:
        self._process = process
        self._http = http
        self._patience = patience

    async def ready(self) -> None:
        """Return once /readyz answers 200. Raises SmokeFailed."""

        async def is_ready() -> bool:
            async with self._http.get("/readyz") as answer:
                return answer.status == HTTPStatus.OK

        await self._until(is_ready, "it was not ready")

    async def handles(self, type_: str, count: int) -> None:
        """Return once `count` events of `type_` are done. Raises SmokeFailed, soon if one dies."""

        async def are_done() -> bool:
            if await self._settled(type_, "dead"):
                raise SmokeFailed(f"{type_} went to the dead letters: `dlq list` says why")
            return await self._settled(type_, "done") >= count

        await self._until(
            are_done, f"{type_} was not handled; does another replica take events from this broker?"
        )

    async def drains(self, seconds: float) -> None:
        """Send SIGTERM; return once it ended with 0. Raises SmokeFailed.

        It has the drain's `seconds` and a margin.
        """
        self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self._process.wait(), seconds + _CLOSE_SECONDS)
        except TimeoutError:
            raise SmokeFailed(
                f"it still ran {seconds + _CLOSE_SECONDS:g} s after SIGTERM"
            ) from None
        if code != 0:
            raise SmokeFailed(f"it ended with {code} after SIGTERM, not with 0")

    async def _settled(self, type_: str, outcome: str) -> int:
        reading = await scrape.read(self._http, ["/metrics"], frozenset({type_}))
        return reading.outcomes[outcome]

    async def _until(self, true: Callable[[], Awaitable[bool]], complaint: str) -> None:
        try:
            async with asyncio.timeout(self._patience):
                while not await self._answered(true):  # noqa: ASYNC110 - another process has no event to wait for
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise SmokeFailed(f"within {self._patience:g} s {complaint}") from None

    async def _answered(self, true: Callable[[], Awaitable[bool]]) -> bool:
        if self._process.returncode is not None:
            raise SmokeFailed(
                f"it ended by itself with {self._process.returncode}; its log says why"
            )
        try:
            return await true()
        except (aiohttp.ClientConnectionError, scrape.ScrapeError):
            return False  # the port is not open yet


@asynccontextmanager
async def replica(program: Sequence[str], patience: float) -> AsyncIterator[Replica]:
    """Run `program`, a service's `run`, on a free HTTP port; it is gone at the end of the block."""
    port = _free_port()
    environment = {**os.environ, "CHASSIS_HTTP_HOST": _HOST, "CHASSIS_HTTP_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        *program, stdin=asyncio.subprocess.DEVNULL, env=environment
    )
    try:
        async with aiohttp.ClientSession(f"http://{_HOST}:{port}") as http:
            yield Replica(process, http, patience)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])

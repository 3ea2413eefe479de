"""The HTTP port for operators: /livez, /readyz, /metrics, /version."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from chassis.replica.connections import Bounds
from chassis.replica.lifecycle import Health, Lifecycle

CLOSE_SECONDS = 1.0
"""Time for the answers under way when the block ends."""
IDLE_SECONDS = 75.0
"""Seconds without a whole request after which a connection is closed.

Longer than between two scrapes.
"""


class PortTaken(OSError):
    """The HTTP port cannot be opened; the message names the settings."""


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    *,
    lifecycle: Lifecycle,
    registry: CollectorRegistry,
    version: Mapping[str, str],
) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port, which matters if `port` is 0.

    Raises PortTaken.
    """

    def answer(health: Health) -> web.Response:
        body = {"status": "ok" if health.ok else "unavailable", "reasons": list(health.reasons)}
        return web.json_response(body, status=200 if health.ok else 503)

    async def livez(_: web.Request) -> web.Response:
        return answer(lifecycle.liveness())

    async def readyz(_: web.Request) -> web.Response:
        return answer(lifecycle.readiness())

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def about(_: web.Request) -> web.Response:
        return web.json_response(dict(version))

    app = web.Application()
    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
            web.get("/version", about),
        ]
    )
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=CLOSE_SECONDS, keepalive_timeout=IDLE_SECONDS
    )
    await runner.setup()
    try:
        server = await _listen(runner, host, port)
        async with server:
            yield int(server.sockets[0].getsockname()[1])
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
    serving = cast("Callable[[], asyncio.Protocol]", runner.server)
    try:
        return await asyncio.get_running_loop().create_server(Bounds(serving), host, port)
    except OSError as error:
        where = f"CHASSIS_HTTP_HOST={host}, CHASSIS_HTTP_PORT={port}"
        raise PortTaken(f"{where}: cannot listen there: {error.strerror}") from error

"""An ASGI app on a port of its own, in the replica's event loop, by uvicorn.

The replica owns signals and order, so uvicorn's steps are called one by one and its own `serve`
never is: that takes the process' signals. Knows no route and no framework.
"""

import asyncio
import socket
from importlib import import_module

import structlog

from chassis.replica.probes import PortTaken
from chassis.replica.web.requests import Observed
from chassis.service import AsgiApp
from chassis.telemetry.traces import Traces

IDLE_SECONDS = 75
"""Seconds until a connection without a request is closed: longer than a gateway keeps one."""
SHUTDOWN_SECONDS = 2.0
"""Time for the app's own shutdown, beyond the drain's deadline."""

_log = structlog.get_logger(__name__)


class WebFailed(Exception):
    """The mounted app cannot be served; the message says why."""


class Web:
    """Binds the port, serves between `start` and `drain`. Raises PortTaken, WebFailed."""

    def __init__(self, app: AsgiApp, host: str, port: int, traces: Traces) -> None:
        try:
            uvicorn = import_module("uvicorn")
        except ModuleNotFoundError:
            raise WebFailed(
                "service.mount needs uvicorn, which is not installed: add dockyard-chassis[http] "
                "to the dependencies in pyproject.toml"
            ) from None
        self._socket = _bound(host, port)
        self._config = uvicorn.Config(
            Observed(app, traces),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE_SECONDS,
        )
        self._config.load()
        self._server = uvicorn.Server(self._config)
        self._server.lifespan = self._config.lifespan_class(self._config)
        self._ticking: asyncio.Task[None] | None = None

    @property
    def serving(self) -> bool:
        return self._ticking is not None

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Run the app's startup and take requests. Raises WebFailed."""
        port = self.port
        try:
            await self._server.startup(sockets=[self._socket])
        except SystemExit:  # how uvicorn says it; the log has the app's error
            raise WebFailed("the startup of the mounted app failed: see the log above") from None
        self._ticking = asyncio.create_task(self._server.main_loop())
        _log.info("serving HTTP", port=port)

    async def drain(self, deadline: float) -> None:
        """Take no more requests and answer those in flight, for `deadline` seconds.

        Requests that last longer are cancelled. The app's shutdown comes last.
        """
        if self._ticking is None:
            return
        self._server.should_exit = True
        self._config.timeout_graceful_shutdown = deadline
        try:
            async with asyncio.timeout(deadline + SHUTDOWN_SECONDS):
                await self._ticking
                await self._server.shutdown(sockets=[self._socket])
        except TimeoutError:
            _log.error("the shutdown of the mounted app did not end in time")
        self._ticking = None

    def close(self) -> None:
        """Close the port, if nothing has yet."""
        self._socket.close()


def _bound(host: str, port: int) -> socket.socket:
    """A socket at the port that takes no connection yet. Raises PortTaken."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        where = f"CHASSIS_HTTP_HOST={host}, CHASSIS_API_PORT={port}"
        raise PortTaken(f"{where}: cannot listen there: {error.strerror}") from error
    return made

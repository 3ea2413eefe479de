"""`dev`: the service on the broker and the store that it chose, shared with its neighbours.

Each server is held by a small process of its own (`keeper`), from the first `dev` that uses it to
the last one. Knows which servers a service wants; knows no server.
"""

import os
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from chassis.replica import process
from chassis.service import Service
from chassis.settings import Settings
from chassis.tools import address
from chassis.tools.dev.choice import Choice, chosen
from chassis.tools.dev.nats import NATS
from chassis.tools.dev.postgres import POSTGRES
from chassis.tools.dev.rabbitmq import RABBITMQ
from chassis.tools.dev.redis import REDIS
from chassis.tools.dev.server import Server, ServerMissingError
from chassis.tools.dev.sharing import shared

_log = structlog.get_logger(__name__)

SERVERS = {server.kind: server for server in (NATS, RABBITMQ, REDIS, POSTGRES)}
_OWN = Path(".dockyard")


async def develop(service: Service, settings: Settings, data: Path | None) -> None:
    """Run `service` on the broker and the store that it chose; those in `settings` come first.

    Services of an organisation share their servers. With `data`, this service keeps servers of its
    own in that folder. Raises ServerMissingError if not even a NATS can be had.
    """
    choice = chosen(service.name, Path())
    async with AsyncExitStack() as stack:
        own = await _connected(settings, _Servers(stack, service.name, choice, data))
        own = replace(
            own,
            http_port=_free_or_any(settings.http_port),
            api_port=_free_or_any(settings.api_port),
        )
        with address.announced(_OWN, own):
            await process.run(service, own)


class _Servers:
    """The servers that this `dev` uses, until `stack` closes."""

    def __init__(
        self, stack: AsyncExitStack, service: str, choice: Choice, data: Path | None
    ) -> None:
        self._stack = stack
        self._service = service
        self._choice = choice
        self._folder = data or _folder(choice.organisation)
        self._urls: dict[str, str] = {}

    @property
    def choice(self) -> Choice:
        return self._choice

    async def url(self, kind: str) -> str:
        """Of the server of this kind, or of a NATS in its place."""
        if kind not in self._urls:
            self._urls[kind] = await self._use(SERVERS[kind])
        return self._urls[kind]

    async def _use(self, server: Server) -> str:
        image = self._choice.images.get(server.kind)
        using = shared(server, self._folder, self._service, image)
        try:
            return await self._stack.enter_async_context(using)
        except ServerMissingError as error:
            if server is NATS:
                raise
            _log.warning(f"running on NATS: {server.without}", reason=str(error))
            return await self.url(NATS.kind)


async def _connected(settings: Settings, servers: _Servers) -> Settings:
    """`settings` with the URLs that they leave open."""
    choice = servers.choice
    bus = settings.bus_url or await servers.url(choice.bus)
    inbox = settings.inbox_url
    scheme = urlsplit(bus).scheme
    keeps_the_inbox = scheme == "memory" or (
        choice.store == NATS.kind and scheme in {"nats", "tls"}
    )
    if inbox is not None or keeps_the_inbox:
        return replace(settings, bus_url=bus)
    return replace(settings, bus_url=bus, inbox_url=await servers.url(choice.store), migrate=True)


def _folder(organisation: str | None) -> Path:
    """Where the servers of an organisation keep their data, on this machine and for this user."""
    if organisation is None:
        return _OWN
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state, "dockyard", organisation)
    if os.geteuid() == 0:  # PostgreSQL's account cannot look into root's home
        return Path("/var/lib/dockyard", organisation)
    return Path.home() / ".local/state/dockyard" / organisation


def _free_or_any(port: int) -> int:
    with socket.socket() as probe:
        return 0 if probe.connect_ex(("127.0.0.1", port)) == 0 else port

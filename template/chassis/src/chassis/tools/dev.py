"""`dev`: the service with an embedded NATS, its data in a folder that git ignores."""

import socket
from dataclasses import replace
from pathlib import Path

import structlog

from chassis.replica import process
from chassis.service import Service
from chassis.settings import Settings
from chassis.tools import address
from chassis.tools.embedded import embedded_nats

_log = structlog.get_logger(__name__)


async def develop(service: Service, settings: Settings, data: Path) -> None:
    """Run `service`. Without a broker in `settings`, start a NATS that keeps its data in `data`."""
    if settings.bus_url is not None:
        await process.run(service, settings)
        return
    async with embedded_nats(data / "nats") as url:
        (data / ".gitignore").write_text("*\n")
        with address.announced(data, url):
            _log.info("embedded NATS", url=url, data=str(data))
            port = settings.http_port if _free(settings.http_port) else 0
            api_port = settings.api_port if _free(settings.api_port) else 0
            own = replace(settings, bus_url=url, http_port=port, api_port=api_port)
            await process.run(service, own)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

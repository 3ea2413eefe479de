"""A service that publishes and takes no event: for scripts, scheduled jobs and consoles."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chassis import adapters
from chassis.bus import Bus, BusUnavailable, NoBusMetrics
from chassis.inbox import TransactionalInbox
from chassis.publishing.direct import Direct
from chassis.publishing.publisher import Publisher
from chassis.replica.assemble import metrics_of
from chassis.service import Service
from chassis.settings import Settings, load
from chassis.telemetry.traces import NoTraces
from chassis.urls import masked

CONNECT_SECONDS = 5.0


@asynccontextmanager
async def connected(service: Service[Any], settings: Settings | None = None) -> AsyncIterator[None]:
    """`service.publish`, `cancel` and `transaction` work in the block, where no replica runs.

    CHASSIS_* variables set it up, unless `settings` does. With the inbox in PostgreSQL it needs no
    broker: a replica publishes what the block stores. Raises Unavailable, SettingsError.
    """
    settings = load() if settings is None else settings
    bus = adapters.open_bus(settings, f"{service.name}-script", NoBusMetrics())
    inbox = adapters.open_inbox(settings)
    publisher = Publisher(bus, metrics_of(service), NoTraces(), settings.max_body_bytes)
    try:
        if isinstance(inbox, TransactionalInbox):
            await inbox.open()
        else:
            if service.held.delays is not None:
                await inbox.open()  # only a cancellation needs it
            await bus.start()
            await _ready(bus, settings)
        service.direct = Direct(service.name, publisher, inbox, service.held)
        yield
    finally:
        service.direct = None
        await bus.close()
        await inbox.close()


async def _ready(bus: Bus, settings: Settings) -> None:
    try:
        await asyncio.wait_for(bus.wait_ready(), CONNECT_SECONDS)
    except TimeoutError:
        raise BusUnavailable(
            f"no broker answers at {masked(settings.bus)} (CHASSIS_BUS_URL)"
        ) from None

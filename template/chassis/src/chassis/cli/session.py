"""What the commands beside `run` share: settings that may come from a running `dev`, and a bus for a moment."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from chassis import adapters
from chassis import settings as settings_module
from chassis.bus import Bus, BusUnavailable, NoBusMetrics, OnDelivery, Subscription
from chassis.contracts import event_types
from chassis.service import Service
from chassis.settings import Settings, SettingsError
from chassis.telemetry import logs
from chassis.tools import dev
from chassis.urls import masked

CONNECT_SECONDS = 5.0


class UsageError(Exception):
    """A command cannot do what it was told; the message says why."""


class Session:
    """Commands of `service`; `run` runs a coroutine to its end."""

    def __init__(self, service: Service, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self.service = service
        self.run = run

    def settings(self) -> Settings:
        """The environment's settings; without CHASSIS_BUS_URL those of the `dev` that runs in this folder."""
        settings = settings_module.load()
        if settings.bus_url is not None:
            return settings
        url = dev.running(Path(".dockyard"))
        if url is None:
            raise SettingsError(
                f"CHASSIS_BUS_URL is not set and no `{self.service.name} dev` is running in this folder: "
                "set it, or start one"
            )
        return settings_module.load(bus_url=url)

    @asynccontextmanager
    async def bus(
        self, subscription: Subscription | None = None, on_delivery: OnDelivery | None = None
    ) -> AsyncIterator[Bus]:
        """A connected bus, with a subscription if one is given. Raises BusUnavailable when no broker answers soon."""
        settings = self.settings()
        logs.configure(settings.log_format, "error", self.service.name)
        bus = adapters.open_bus(settings, f"{self.service.name}-cli", NoBusMetrics())
        if subscription is not None and on_delivery is not None:
            bus.subscribe(subscription, on_delivery)
        await bus.start()
        try:
            try:
                await asyncio.wait_for(bus.wait_ready(), CONNECT_SECONDS)
            except TimeoutError:
                where = masked(settings.bus)
                raise BusUnavailable(f"no broker answers at {where} (CHASSIS_BUS_URL)") from None
            yield bus
        finally:
            await bus.close()

    def load_contracts(self) -> None:
        """Import all generated contracts of the service."""
        messages = self.service.registry.messages
        if messages:
            event_types.load_contracts(messages[0])

    def resolve_type(self, name: str) -> type[Message]:
        """The message class of a full type name, or of a bare one such as UserSignedUp when that is enough."""
        self.load_contracts()
        if "." in name:
            return event_types.message_class(name)
        return event_types.find_message(name)

"""What the commands share: the service, the settings, contracts, and a bus for a moment."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chassis import settings as settings_module
from chassis.settings import Settings, SettingsError
from chassis.urls import masked

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from chassis.bus import Bus, OnDelivery, Subscription
    from chassis.processes.store import ProcessStore
    from chassis.service import Service

CONNECT_SECONDS = 5.0


class UsageError(Exception):
    """A command cannot do what it was told; the message says why."""


class Session:
    """The commands of the service `name`.

    `service` may be `module:attribute`: a command imports the handlers only if it needs them.
    """

    def __init__(self, service: "Service | str", name: str = "") -> None:
        self._service = service
        self.name = name or (service if isinstance(service, str) else service.name)

    @cached_property
    def service(self) -> "Service":
        """The service with its handlers. Raises UsageError when `module:attribute` names none."""
        if not isinstance(self._service, str):
            return self._service
        from importlib import import_module

        from chassis.service import Service

        module, _, attribute = self._service.partition(":")
        found = getattr(import_module(module), attribute, None)
        if not isinstance(found, Service):
            raise UsageError(
                f"{self._service} is not a Service: main() in __main__.py takes module:attribute"
            )
        return found

    @property
    def version(self) -> str:
        """The service's version, from its installed distribution."""
        if not isinstance(self._service, str):
            return self._service.version
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(self.name)
        except PackageNotFoundError:
            return "0"

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end."""
        from chassis.cli import loop

        loop.run(main)

    def settings(self) -> Settings:
        """The environment's settings. Without CHASSIS_BUS_URL, those of `dev`."""
        settings = settings_module.load()
        if settings.bus_url is not None:
            return settings
        from chassis.tools import address

        urls = address.of_running(Path(".dockyard"))
        if not urls:
            raise SettingsError(
                f"CHASSIS_BUS_URL is not set and no `{self.name} dev` is running in this folder: "
                "set it, or start one"
            )
        return settings_module.load(None, **urls)

    @asynccontextmanager
    async def bus(
        self,
        subscription: "Subscription | None" = None,
        on_delivery: "OnDelivery | None" = None,
    ) -> "AsyncIterator[Bus]":
        """A connected bus, subscribed if asked. Raises BusUnavailable if no broker answers soon."""
        import asyncio

        from chassis import adapters
        from chassis.bus import BusUnavailable, NoBusMetrics
        from chassis.telemetry import logs

        settings = self.settings()
        logs.configure(settings.log_format, "error", self.name)
        bus = adapters.open_bus(settings, f"{self.name}-cli", NoBusMetrics())
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

    @asynccontextmanager
    async def processes(self) -> "AsyncIterator[ProcessStore]":
        """The open store of the service's processes. Raises InboxUnavailable, UsageError."""
        from chassis import adapters
        from chassis.telemetry import logs

        settings = self.settings()
        if settings.inbox.startswith("memory:"):
            raise UsageError("processes in memory:// are known to their own replica only")
        logs.configure(settings.log_format, "error", self.name)
        inbox = adapters.open_inbox(settings)
        store = adapters.open_processes(settings, self.name, inbox)
        try:
            if store.transactional:  # then it is open while the inbox is
                await inbox.open()
            await store.open()
            yield store
        finally:
            await store.close()
            if store.transactional:
                await inbox.close()

    def load_contracts(self) -> None:
        """Import all generated contracts of the service."""
        from chassis.contracts import event_types

        messages = self.service.registry.messages
        if messages:
            event_types.load_contracts(messages[0])

    def resolve_type(self, name: str) -> "type[Message]":
        """The message class of a full type name, or of a bare UserSignedUp if it is unique.

        A full name needs the contracts of its package alone, and no handler.
        """
        from chassis.contracts import event_types

        if "." in name and event_types.load_package(name):
            return event_types.message_class(name)
        self.load_contracts()
        if "." in name:
            return event_types.message_class(name)
        return event_types.find_message(name)

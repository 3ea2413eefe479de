"""A replica from its start to exit 0: it waits for its store, serves, and drains in order.

The order of a drain: not ready, take no more events and requests, stop leading, finish what is in
flight until one deadline and hand back the other events, publish the outbox, close the bus, leave
the lifespan, close store and traces, exit. A start that fails half-way leaves in the same order
what it has entered. Knows the ports, no broker and no store. Its parts come from `assemble`.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from chassis.bus import Bus
from chassis.cancellation import cancel
from chassis.inbox import Inbox, InboxUnavailable
from chassis.processes.store import ProcessStore
from chassis.replica import assemble, backlog, probes, resources
from chassis.replica.assemble import Parts
from chassis.replica.lifecycle import Lifecycle
from chassis.service import Service, installed_version
from chassis.settings import Settings, SettingsError

if TYPE_CHECKING:
    from chassis.replica.web.server import Web

_log = structlog.get_logger(__name__)

STORE_RETRY_SECONDS = 1.0


async def run(service: Service, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Waits for a broker or a store that is not there yet.
    """
    await _live(service, settings, assemble.parts(service, settings), relay_alone=False)


async def relay(service: Service, settings: Settings) -> None:
    """As `run`, but take no events: publish the events that other replicas stored in the outbox.

    Raises SettingsError if the inbox is of a kind that has no outbox.
    """
    parts = assemble.parts(service, settings)
    if parts.relay is None:
        raise SettingsError(
            "there is no outbox to relay: only the inbox at a CHASSIS_INBOX_URL=postgresql://… "
            "has one"
        )
    await _live(service, settings, parts, relay_alone=True)


async def _live(service: Service, settings: Settings, parts: Parts, *, relay_alone: bool) -> None:
    lifecycle = Lifecycle()
    lifecycle.handle_signals()
    _watch(parts, lifecycle, settings.drain_seconds)
    about = {
        "service": service.name,
        "version": service.version,
        "chassis": installed_version(assemble.CHASSIS),
    }
    async with AsyncExitStack() as stack:
        probing = probes.serve(
            settings.http_host,
            settings.http_port,
            lifecycle=lifecycle,
            registry=parts.metrics.registry,
            version=about,
        )
        port = await stack.enter_async_context(probing)
        types = [] if relay_alone else sorted(service.registry.types)
        _log.info("starting", version=service.version, http_port=port, types=types)
        beating = asyncio.create_task(lifecycle.beat(parts.metrics.loop_lag.set))
        stack.callback(beating.cancel)
        web = None if relay_alone else _web(service, settings, parts, stack)
        stack.push_async_callback(_close_store_and_traces, parts)
        there = relay_alone or await stack.enter_async_context(
            resources.opened(service, lifecycle.stopping)
        )
        stack.push_async_callback(parts.bus.close)
        stack.callback(setattr, service, "direct", None)
        if there and await _open(parts, lifecycle):
            _start(service, settings, parts, lifecycle, relay_alone=relay_alone)
            await _serve(service, settings, parts, lifecycle, web)
    _log.info("stopped")


def _web(service: Service, settings: Settings, parts: Parts, stack: AsyncExitStack) -> "Web | None":
    """The team's app at its port, not serving yet. Raises PortTaken, WebFailed."""
    if service.mounted is None:
        return None
    from chassis.replica.web.server import Web  # noqa: PLC0415 - only a mounted app needs it

    web = Web(service.mounted, settings.http_host, settings.api_port, parts.traces)
    stack.callback(web.close)
    return web


async def _serve(
    service: Service,
    settings: Settings,
    parts: Parts,
    lifecycle: Lifecycle,
    web: "Web | None",
) -> None:
    await parts.bus.start()
    service.direct = parts.direct
    if web is not None:
        lifecycle.require("http", lambda: web.serving)
        await _until_stopping(web.start(), lifecycle)
    announcing = asyncio.create_task(_announce(parts.bus))
    watching = [asyncio.create_task(backlog.watch(parts.bus, service.name, parts.metrics))]
    if parts.processes is not None:
        from chassis.processes.watch import watch  # noqa: PLC0415 - only a service with processes needs it

        names = service.registry.processes
        watching.append(asyncio.create_task(watch(parts.processes, names, parts.metrics.processes)))
    if parts.ticker is not None:
        watching.append(asyncio.create_task(parts.ticker.run()))
    leading = _lead(service, settings, parts)
    await lifecycle.stopping.wait()
    announcing.cancel()
    for task in [*watching, *leading]:
        task.cancel()
    await _drain(parts, web, leading, settings.drain_seconds)


def _lead(service: Service, settings: Settings, parts: Parts) -> "list[asyncio.Task[None]]":
    """The service's wishes to lead. A cancelled one ends when its body has ended."""
    if not service.registry.leaders:
        return []
    from chassis.schedule.leader import Leadership  # noqa: PLC0415 - only a service with a leader needs it
    from chassis.telemetry.leaders import LeaderMetrics  # noqa: PLC0415 - likewise

    metrics = LeaderMetrics(parts.metrics.registry)
    return [
        asyncio.create_task(
            Leadership(
                leader,
                service.name,
                parts.inbox,
                seconds=settings.lease_seconds,
                held=service.held,
                metrics=metrics,
            ).run()
        )
        for leader in service.registry.leaders.values()
    ]


async def _close_store_and_traces(parts: Parts) -> None:
    if parts.processes is not None:
        await parts.processes.close()
    await asyncio.gather(parts.inbox.close(), parts.traces.shutdown())


def _watch(parts: Parts, lifecycle: Lifecycle, drain_seconds: float) -> None:
    """Readiness, and the metrics that say the same."""
    consumer, metrics = parts.consumer, parts.metrics
    lifecycle.require("bus", lambda: consumer.consuming)
    lifecycle.require("inbox", lambda: consumer.store_reachable)
    lifecycle.require("setup", lambda: consumer.setup_fault is None)
    metrics.ready.set_function(lambda: float(lifecycle.readiness().ok))
    metrics.inbox_reachable.set_function(lambda: float(consumer.store_reachable))
    metrics.drain_deadline.set(drain_seconds)


def _start(
    service: Service, settings: Settings, parts: Parts, lifecycle: Lifecycle, *, relay_alone: bool
) -> None:
    """Start everything but the bus."""
    bus, relay = parts.bus, parts.relay
    parts.consumer.start()
    if relay is not None:
        relay.start(publishing=relay_alone or settings.outbox_relay, listening=relay_alone)
        lifecycle.require("outbox", lambda: relay.working)
    if not relay_alone:
        assemble.subscribe(service, bus, parts.consumer, settings.prefetch)
    parts.metrics.bus_connected.set_function(lambda: float(bus.connected))


async def _drain(
    parts: Parts, web: "Web | None", leading: "list[asyncio.Task[None]]", deadline: float
) -> None:
    started = monotonic()
    # A live value: once the drain is over, no scrape can read it.
    parts.metrics.drain_seconds.set_function(lambda: monotonic() - started)
    requests = asyncio.create_task(web.drain(deadline)) if web is not None else None
    abandoned = await parts.consumer.drain(deadline)
    if requests is not None:
        await requests
    if leading:
        await asyncio.wait(leading, timeout=max(0.0, deadline - (monotonic() - started)))
    if parts.relay is not None:
        await parts.relay.drain(deadline - (monotonic() - started))
    _log.info("drained", seconds=round(monotonic() - started, 3), abandoned=abandoned)


async def _open(parts: Parts, lifecycle: Lifecycle) -> bool:
    """Open what is stored as soon as the store answers; False if the replica must stop before."""
    return await _until_stopping(_open_once_there(parts.inbox, parts.processes), lifecycle)


async def _until_stopping(doing: Coroutine[Any, Any, None], lifecycle: Lifecycle) -> bool:
    """Whether `doing` has ended; it is cancelled if the replica must stop before."""
    stopping = asyncio.create_task(lifecycle.stopping.wait())
    task = asyncio.create_task(doing)
    await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        await cancel(task)
        return False
    task.result()
    return True


async def _open_once_there(inbox: Inbox, processes: ProcessStore | None) -> None:
    told = False
    while True:
        try:
            await inbox.open()
            if processes is not None:
                await processes.open()
        except InboxUnavailable as error:
            if not told:
                _log.warning(
                    "the inbox store is not reachable yet, waiting for it", error=str(error)
                )
                told = True
            await asyncio.sleep(STORE_RETRY_SECONDS)
        else:
            return


async def _announce(bus: Bus) -> None:
    await bus.wait_ready()
    _log.info("ready")

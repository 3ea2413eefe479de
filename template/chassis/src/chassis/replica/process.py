"""A replica from its start to exit 0: it waits for its store, serves, and drains in order.

The order of a drain: not ready, take no more events, finish events in flight until the deadline and
hand back the others, publish the outbox, close the bus, leave the lifespan, close store and traces,
exit. A start that fails half-way leaves in the same order what it has entered.
Knows the ports, no broker and no store. Its parts come from `assemble`.
"""

import asyncio
from contextlib import AsyncExitStack
from time import monotonic

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
        stack.push_async_callback(_close_store_and_traces, parts)
        there = relay_alone or await stack.enter_async_context(
            resources.opened(service, lifecycle.stopping)
        )
        stack.push_async_callback(parts.bus.close)
        if there and await _open(parts, lifecycle):
            _start(service, settings, parts, lifecycle, relay_alone=relay_alone)
            await _serve(service, settings, parts, lifecycle)
    _log.info("stopped")


async def _serve(service: Service, settings: Settings, parts: Parts, lifecycle: Lifecycle) -> None:
    await parts.bus.start()
    service.direct = parts.direct
    announcing = asyncio.create_task(_announce(parts.bus))
    watching = asyncio.create_task(backlog.watch(parts.bus, service.name, parts.metrics))
    await lifecycle.stopping.wait()
    announcing.cancel()
    watching.cancel()
    await _drain(parts, settings.drain_seconds)
    service.direct = None


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


async def _drain(parts: Parts, deadline: float) -> None:
    started = monotonic()
    # A live value: once the drain is over, no scrape can read it.
    parts.metrics.drain_seconds.set_function(lambda: monotonic() - started)
    abandoned = await parts.consumer.drain(deadline)
    if parts.relay is not None:
        await parts.relay.drain(deadline - (monotonic() - started))
    _log.info("drained", seconds=round(monotonic() - started, 3), abandoned=abandoned)


async def _open(parts: Parts, lifecycle: Lifecycle) -> bool:
    """Open what is stored as soon as the store answers; False if the replica must stop before."""
    stopping = asyncio.create_task(lifecycle.stopping.wait())
    opening = asyncio.create_task(_open_once_there(parts.inbox, parts.processes))
    await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not opening.done():
        await cancel(opening)
        return False
    opening.result()
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

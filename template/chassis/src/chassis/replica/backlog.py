"""Keeps the gauges of a service's backlog at the broker: events that wait, and dead letters.

Asks the bus now and then, because each answer costs the broker something. Knows no broker and
judges nothing.
"""

import asyncio
from math import nan

import structlog

from chassis.bus import Backlog, Bus, BusUnavailable
from chassis.telemetry.metrics import Metrics

PERIOD_SECONDS = 10.0

_log = structlog.get_logger(__name__)


async def watch(bus: Bus, service: str, metrics: Metrics, period: float = PERIOD_SECONDS) -> None:
    """Run for ever, asking every `period` seconds.

    What cannot be asked for is not a number: an old figure would look like one of now.
    """
    while True:
        backlog = await _ask(bus, service)
        metrics.backlog.set(nan if backlog is None else backlog.waiting)
        metrics.dead_letters_waiting.set(nan if backlog is None else backlog.dead)
        bound = None if backlog is None else backlog.most_dead
        metrics.dead_letters_bound.set(nan if bound is None else bound)
        await asyncio.sleep(period)


async def _ask(bus: Bus, service: str) -> Backlog | None:
    try:
        return await bus.backlog(service)
    except BusUnavailable as error:
        _log.debug("the backlog is not known", error=str(error))
    except Exception:  # noqa: BLE001 - logged with its stack; the service works without this figure
        _log.exception("a defect of the bus adapter: it cannot tell the backlog")
    return None

"""Keeps the gauges of a service's processes: how many there are, and how long one has been idle.

Asks the store now and then: one without queries reads every record for an answer. Judges nothing.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

import structlog

from chassis.inbox import InboxUnavailable
from chassis.processes.store import STATUSES, ProcessStore
from chassis.telemetry.processes import ProcessMetrics

PERIOD_SECONDS = 60.0

_log = structlog.get_logger(__name__)


async def watch(
    store: ProcessStore,
    processes: Iterable[str],
    metrics: ProcessMetrics,
    period: float = PERIOD_SECONDS,
) -> None:
    """Run for ever, asking every `period` seconds for the `processes` by name."""
    names = list(processes)
    for name in names:
        metrics.of(name)
    while True:
        try:
            await _look(store, names, metrics)
        except InboxUnavailable as error:
            metrics.unknown()
            _log.debug("the number of processes is not known", error=str(error))
        except Exception:  # noqa: BLE001 - logged with its stack; the service works without this figure
            metrics.unknown()
            _log.exception("a defect of the store of processes: it cannot count them")
        await asyncio.sleep(period)


async def _look(store: ProcessStore, names: Iterable[str], metrics: ProcessMetrics) -> None:
    now = datetime.now(UTC)
    found = {(tally.process, tally.status): tally for tally in await store.tally()}
    for name in names:
        for status in STATUSES:
            tally = found.get((name, status))
            if tally is None:
                metrics.show(name, status)
                continue
            idle = max(0.0, (now - tally.idle_since).total_seconds())
            metrics.show(name, status, tally.count, idle)

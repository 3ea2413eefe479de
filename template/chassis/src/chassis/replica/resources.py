"""What the lifespan of a service opens: there before the first event, left after the last one.

Knows neither bus nor store, and nothing of what a lifespan opens.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from chassis.service import Service

LEAVE_SECONDS = 5.0
"""Time for a lifespan to close what it opened."""
CANCEL_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class LifespanFailed(Exception):
    """The lifespan raised before it gave its resources; the message names the error."""


@asynccontextmanager
async def opened(service: Service, stopping: asyncio.Event) -> AsyncIterator[bool]:
    """The resources of `service` during the block; False if `stopping` is set before they are open.

    Raises LifespanFailed. One task enters and leaves the lifespan, as task groups and cancel scopes
    in it demand.
    """
    if service.lifespan is None:
        yield True
        return
    leave, entered = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(_live(service, entered, leave))
    waiting = [asyncio.create_task(event.wait()) for event in (entered, stopping)]
    try:
        await asyncio.wait([task, *waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            _raise_failure(service, task)
        if not entered.is_set():
            task.cancel()
        yield entered.is_set()
    finally:
        for each in waiting:
            each.cancel()
        leave.set()
        await _left(task)
        service.held.resources = None


async def _live(service: Service, entered: asyncio.Event, leave: asyncio.Event) -> None:
    assert service.lifespan is not None  # noqa: S101 - `opened` has looked
    async with service.lifespan() as resources:
        service.held.resources = resources
        entered.set()
        await leave.wait()


def _raise_failure(service: Service, task: "asyncio.Task[None]") -> None:
    error = None if task.cancelled() else task.exception()
    _log.error("the lifespan failed at the start", exc_info=error)
    said = "it was cancelled" if error is None else f"{type(error).__name__}: {error}"
    raise LifespanFailed(
        f"the lifespan of {service.name} failed before it gave its resources: {said}"
    ) from error


async def _left(task: "asyncio.Task[None]") -> None:
    """Wait until the lifespan is left, for a bounded time. What it raises is logged."""
    await asyncio.wait([task], timeout=LEAVE_SECONDS)
    if not task.done():
        _log.error("the lifespan did not end in time and is cancelled", seconds=LEAVE_SECONDS)
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_SECONDS)
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the lifespan failed at its end", exc_info=error)

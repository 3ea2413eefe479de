"""Publishes the ticks of a service when they are due.

Every replica publishes every tick; the inbox takes each once. So there is no leader whose loss
costs a tick, and a tick is missed only while no replica runs or the broker is away.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from chassis.bus import BusUnavailable
from chassis.publishing.publisher import Publisher
from chassis.schedule.ticks import Schedule, to_tick_event

_log = structlog.get_logger(__name__)

_LONGEST_SLEEP = 30.0
"""Seconds. The wall clock is looked at again then: it can be set."""
_AGAIN_SECONDS = 0.5


class Ticker:
    """`now` is the wall clock, in UTC."""

    def __init__(
        self,
        service: str,
        schedules: Sequence[Schedule],
        publisher: Publisher,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._service = service
        self._schedules = schedules
        self._publisher = publisher
        self._now = now

    async def run(self) -> None:
        """Publish for ever."""
        async with asyncio.TaskGroup() as group:
            for schedule in self._schedules:
                group.create_task(self._keep_always(schedule))

    async def _keep_always(self, schedule: Schedule) -> None:
        while True:
            try:
                await self._keep(schedule)
            except Exception:  # noqa: BLE001 - a defect must not end the only task of the schedule
                _log.exception("a defect of the chassis ends a schedule", schedule=schedule.name)
                await asyncio.sleep(_LONGEST_SLEEP)

    async def _keep(self, schedule: Schedule) -> None:
        now = self._now()
        done = schedule.when.last(now)
        if (now - done).total_seconds() <= schedule.missed:
            done = await self._publish(schedule, done)
        while True:
            due = schedule.when.next(max(done, self._now()))
            while (left := (due - self._now()).total_seconds()) > 0:  # noqa: ASYNC110 - a wall clock tells nobody that it is set
                await asyncio.sleep(min(left, _LONGEST_SLEEP))
            done = await self._publish(schedule, due)

    async def _publish(self, schedule: Schedule, due: datetime) -> datetime:
        """Publish the tick until the broker has it; of several that are due meanwhile, the latest.

        Gives the time of the tick that was published, or given up because it is too old.
        """
        while True:
            try:
                await self._publisher.publish(to_tick_event(self._service, schedule, due), {})
            except BusUnavailable as error:
                _log.debug("a tick is not confirmed", schedule=schedule.name, error=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
                now = self._now()
                due = max(due, schedule.when.last(now))
                if (now - due).total_seconds() > schedule.missed:
                    _log.warning("a tick is missed", schedule=schedule.name, due=str(due))
                    return due
            else:
                return due

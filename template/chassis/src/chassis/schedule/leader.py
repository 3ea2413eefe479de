"""Leadership: what must run all the time, in one replica of the service.

A leader holds a claim of the inbox and extends it. Its body is cancelled before the claim can be
over, so that no other replica leads at the same time. A process that stands still, frozen or with a
blocked event loop, cannot cancel in time: another replica then leads with a higher fence until the
first one wakes. What such a late leader must not do, the fence prevents.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import random
from time import monotonic
from typing import Any, Generic, NoReturn

import structlog

from chassis.backoff import backoff
from chassis.context import Held, Resources_co
from chassis.inbox import Inbox, InboxUnavailable, Lease, LeaseLost, Refused, inbox_key
from chassis.telemetry.leaders import LeaderMetrics

_log = structlog.get_logger(__name__)

EXTEND_AT = 1 / 3
"""Of the lease: after that share it is extended, and extended again if the store failed."""
STOP_AT = 3 / 4
"""Of the lease: without an extension the body is cancelled then. The rest is its time to end."""
_AGAIN_SECONDS = 1.0
_AGAIN_MAX_SECONDS = 60.0


class Lead(Generic[Resources_co]):
    """What a leader knows of its time as one: from the claim until the body ends."""

    __slots__ = ("_held", "fence", "name")

    def __init__(self, name: str, fence: int, held: Held) -> None:
        self.name = name
        self.fence = fence
        """Grows with every leader of this name.

        Store it with what the leader writes, and refuse a write with a lower one: it comes from a
        leader that was frozen and does not know that it is over.
        """
        self._held = held

    @property
    def resources(self) -> Resources_co:
        """What the service's lifespan gave."""
        return self._held.resources  # type: ignore[return-value] # the service's own type


Body = Callable[[Lead[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Leader:
    """What a team registered."""

    name: str
    body: Body


class Leadership:
    """Wants to lead as `leader` of `service`, again and again, until it is cancelled.

    `seconds` is the term of the inbox's leases. `clock` gives seconds and goes on while the process
    is frozen.
    """

    def __init__(
        self,
        leader: Leader,
        service: str,
        inbox: Inbox,
        *,
        seconds: float,
        held: Held,
        metrics: LeaderMetrics,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._leader = leader
        self._inbox = inbox
        self._seconds = seconds
        self._held = held
        self._metrics = metrics
        self._clock = clock
        self._key = inbox_key(service, "leader", leader.name)
        metrics.show(leader.name, leading=False)

    async def run(self) -> NoReturn:
        failures = 0
        while True:
            asked = self._clock()
            try:
                answer = await self._inbox.claim(self._key, "")
            except InboxUnavailable as error:
                _log.debug("no leader can be chosen", leader=self._leader.name, error=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if isinstance(answer, Refused):
                # Asked before it is over too: a leader that drains gives its claim up.
                await asyncio.sleep(min(answer.retry_after, self._seconds / 4))
                continue
            try:
                ended_well = await self._lead(answer, asked)
            except Exception:  # noqa: BLE001 - a defect must not end the only task that wants to lead
                _log.exception(
                    "a defect of the chassis: leading has ended", leader=self._leader.name
                )
                ended_well = False
            failures = 0 if ended_well else failures + 1
            await asyncio.sleep(backoff(failures + 1, _AGAIN_SECONDS, _AGAIN_MAX_SECONDS, random))

    async def _lead(self, lease: Lease, since: float) -> bool:
        """Lead while the body runs and the lease, granted at `since`, holds. False: it raised."""
        name = self._leader.name
        lead: Lead[Any] = Lead(name, lease.fence, self._held)
        body = asyncio.ensure_future(self._leader.body(lead))
        self._metrics.show(name, leading=True)
        _log.info("leading", leader=name, fence=lease.fence)
        lost = True
        try:
            lost = await self._hold(lease, since, body)
        finally:
            await self._end(body, lease, lost=lost)
        if body.cancelled() or (error := body.exception()) is None:
            return True
        self._metrics.failed(name)
        _log.error("the leader has failed", leader=name, exc_info=error)
        return False

    async def _hold(self, lease: Lease, since: float, body: "asyncio.Future[None]") -> bool:
        """Extend the lease until the body has ended or must end; whether the lease is lost."""
        until = since + self._seconds * STOP_AT
        due = since + self._seconds * EXTEND_AT
        while True:
            await asyncio.wait([body], timeout=max(0.0, min(due, until) - self._clock()))
            if body.done():
                return False
            asked = self._clock()
            if asked >= until:
                _log.warning("the store does not extend the lease", leader=self._leader.name)
                return True
            try:
                async with asyncio.timeout(until - asked):
                    lease = await self._inbox.extend(lease)
            except LeaseLost:
                _log.warning("another replica leads", leader=self._leader.name)
                return True
            except (InboxUnavailable, TimeoutError):
                due = self._clock() + min(_AGAIN_SECONDS, self._seconds / 10)
            else:
                due = asked + self._seconds * EXTEND_AT
                until = asked + self._seconds * STOP_AT

    async def _end(self, body: "asyncio.Future[None]", lease: Lease, *, lost: bool) -> None:
        """Cancel the body if it still runs, wait for its end, and let another replica lead."""
        name = self._leader.name
        body.cancel()
        _, running = await asyncio.wait([body], timeout=self._seconds * (1 - STOP_AT))
        if running:
            _log.error("a cancelled leader goes on: it swallows CancelledError", leader=name)
            await asyncio.wait([body])
        self._metrics.show(name, leading=False)
        _log.info("leading no more", leader=name, fence=lease.fence)
        if not lost:
            try:
                await self._inbox.release(lease)
            except InboxUnavailable as error:
                _log.info("the lease ends by itself", leader=name, error=str(error))

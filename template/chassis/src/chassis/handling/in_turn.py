"""Attempts of handlers with `concurrency=`, `rate=` or `ordered_by=`: first the turn, then a claim.

An event with an order is kept in hand until it has ended, failures and all. If the broker kept it,
events behind it would overtake it. A claim of its own in the inbox keeps other replicas from its
key. Knows no broker.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import random
from time import monotonic
from typing import Any

import structlog

from chassis.backoff import backoff
from chassis.bus import BusUnavailable, Delivery, Failure
from chassis.bus.history import History
from chassis.contracts.envelope import Envelope
from chassis.handling.appointments import NoTurn
from chassis.handling.attempts import Attempts, Case, Route
from chassis.handling.endings import End, Ending, Retry
from chassis.handling.leases import Work
from chassis.handling.pace import Pace
from chassis.handling.surroundings import Surroundings
from chassis.handling.turns import Place, Turns
from chassis.inbox import InboxUnavailable, LeaseLost, Refused, inbox_key, payload_digest

_log = structlog.get_logger(__name__)

FIRST_LOOK_SECONDS = 0.02
LONGEST_LOOK_SECONDS = 0.25
"""Seconds until a key is asked for again that another replica has in hand.

The first wait is doubled each time, up to the longest.
"""


class InTurn:
    """Makes attempts by `attempts` once the turn of an event has come."""

    def __init__(self, attempts: Attempts, around: Surroundings) -> None:
        self._attempts = attempts
        self._service = around.service
        self._judge = around.judge
        self._inbox = around.inbox
        self._leases = around.leases
        self._outage = around.outage
        self._failures = around.failures
        self._limits = around.limits

    def enter(self, case: Case, routes: Iterable[Route]) -> "Visit":
        """Take a place in every line that `case` has to stand in.

        All places are taken at once, so that all lines have the same order.
        """
        visit = Visit(asyncio.get_running_loop().time() + self._limits.hold)
        for route in routes:
            turns = route.turns
            if turns is None or turns.ordered_by is None:
                continue
            try:
                key = _order_key(turns, case, route)
            except Exception as error:  # noqa: BLE001 - the function is the team's own; it is in the dead letter
                why = str(error) or repr(error)
                visit.refused[route.name] = self._judge.dead(
                    case.delivery, "bad_key", why, error, route.name
                )
            else:
                if key is not None:
                    visit.stands[route.name] = Stand(turns.lines.join(key))
        return visit

    async def make(self, case: Case, route: Route, visit: "Visit") -> Ending:
        """As Attempts.make, when the turn has come.

        Raises NoTurn: the event is to be handed back at once.
        """
        if route.turns is None:
            return await self._attempts.make(case, route)
        if (failure := visit.refused.get(route.name)) is not None:
            return failure
        if (stand := visit.stands.get(route.name)) is not None:
            return await self._in_order(case, route, stand, visit.until)
        return await self._in_slot(case, route, route.turns)

    async def leave(self, visit: "Visit") -> None:
        """The event is settled: the next event of each key may come, here or elsewhere."""
        for stand in visit.stands.values():
            try:
                if stand.work is not None:
                    await self._release(stand.work)
            finally:
                stand.place.leave()

    async def _in_order(self, case: Case, route: Route, stand: "Stand", until: float) -> Ending:
        """One attempt after the other, until the event has ended or its time in hand is over."""
        place = stand.place
        anew = not place.first
        if anew:
            self._failures.ended(case.task)
        await place.reached(until)
        while True:
            ending = await self._try(case, route, stand, anew=anew)
            if ending is End.LOST:
                place.dismiss_line()
            if not isinstance(ending, Retry):
                return ending
            if asyncio.get_running_loop().time() + ending.delay > until:
                return _out_of_hand(ending, place, route.name)
            if ending.counted:
                case = replace(case, delivery=_Again.after(case.delivery))
            self._failures.ended(case.task)
            await place.pause(ending.delay)
            anew = True

    async def _try(self, case: Case, route: Route, stand: "Stand", *, anew: bool) -> Ending:
        """One attempt, if the key can be had.

        A reason that is not the event's fault gives a Retry that does not count.
        """
        assert route.turns is not None  # noqa: S101 - there is no order without it
        try:
            if anew and not self._failures.admit(case.task):
                return Retry(self._limits.put_off, counted=False, failed=False)
            if (stand.work is None or stand.work.lost) and (
                wait := await self._hold_key(case, route, stand)
            ):
                return Retry(wait, counted=False, failed=False)
            return await self._in_slot(case, route, route.turns, key=stand.work, patient=True)
        except InboxUnavailable as error:
            self._outage.report(error)
        except BusUnavailable as error:
            _log.warning(
                "the bus refused; the event is tried again",
                error=str(error),
                event_id=case.envelope.id,
            )
        return Retry(self._limits.probe, counted=False, failed=False)

    async def _in_slot(
        self,
        case: Case,
        route: Route,
        turns: Turns,
        *,
        key: Work | None = None,
        patient: bool = False,
    ) -> Ending:
        slots = turns.slots
        if slots is None:
            return await self._at_pace(case, route, turns.pace, key, patient=patient)
        waited = not slots.available
        if waited:  # an event that waits is no probe of whether events work again
            self._failures.ended(case.task)
        if come_back := await slots.take(patient=patient):
            return Retry(come_back, counted=False, failed=False)
        started = monotonic()
        try:
            if waited and not self._failures.admit(case.task):
                return Retry(self._limits.put_off, counted=False, failed=False)
            return await self._at_pace(case, route, turns.pace, key, patient=True)
        finally:
            slots.free(monotonic() - started)

    async def _at_pace(
        self, case: Case, route: Route, pace: Pace | None, key: Work | None, *, patient: bool
    ) -> Ending:
        if pace is None:
            return await self._attempts.make(case, route, key)
        waited = not pace.available
        if waited:
            self._failures.ended(case.task)
        if come_back := await pace.take(patient=patient):
            return Retry(come_back, counted=False, failed=False)
        if waited and not self._failures.admit(case.task):
            return Retry(self._limits.put_off, counted=False, failed=False)
        return await self._attempts.make(case, route, key)

    async def _hold_key(self, case: Case, route: Route, stand: "Stand") -> float:
        """0 if no other replica has an event of this key in hand, from now until `leave`.

        Otherwise seconds to wait.
        """
        asked_at = monotonic()
        # No event has an empty source or type: this key is none of theirs.
        key = inbox_key(self._service, route.name, f"\0order\0{stand.place.key}")
        claim = await self._inbox.claim(key, payload_digest(key.encode()))
        if not isinstance(claim, Refused):
            stand.work = self._leases.hold_key(case.task, self._inbox, claim, asked_at)
            return 0.0
        stand.looks += 1
        longest = min(claim.retry_after, LONGEST_LOOK_SECONDS)
        return backoff(stand.looks, FIRST_LOOK_SECONDS, longest, random, least=0.5)

    async def _release(self, work: Work) -> None:
        try:
            await self._inbox.release(await self._leases.let_go(work))
        except LeaseLost:
            _log.debug("the lease of a key was over already")
        except InboxUnavailable as error:
            self._outage.report(error)
            _log.debug(
                "the claim of a key could not be released; it ends with its lease", error=str(error)
            )


@dataclass(eq=False, slots=True)
class Stand:
    """Where an event stands in a line.

    `work` is the claim of the key, `looks` how often another replica had it.
    """

    place: Place
    work: Work | None = None
    looks: int = 0


@dataclass(frozen=True, slots=True)
class Visit:
    """An event's stands by handler, or why it may not stand there.

    The event is in hand until `until` (the loop's clock).
    """

    until: float
    stands: dict[str, Stand] = field(default_factory=dict)
    refused: dict[str, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Again:
    """A delivery in hand at a later attempt than the one it was delivered for."""

    delivery: Delivery
    history: History

    @classmethod
    def after(cls, delivery: Delivery) -> "_Again":
        """`delivery` once an attempt has failed."""
        origin = delivery.delivery if isinstance(delivery, _Again) else delivery
        return cls(origin, delivery.history.failed(datetime.now(UTC)))

    @property
    def headers(self) -> Mapping[str, object]:
        return self.delivery.headers

    @property
    def body(self) -> bytes:
        return self.delivery.body

    def envelope(self) -> Envelope:
        return self.delivery.envelope()

    def done(self) -> bool:
        return self.delivery.done()

    async def later(self, delay: float, *, counted: bool) -> bool:
        return await self.delivery.later(delay, counted=counted)

    async def dead(self, failure: Failure) -> bool:
        return await self.delivery.dead(failure)

    async def hand_back(self) -> bool:
        return await self.delivery.hand_back()


def _order_key(turns: Turns, case: Case, route: Route) -> str | None:
    """None when no order is asked for."""
    assert turns.ordered_by is not None  # noqa: S101 - asked by the caller
    key: Any = turns.ordered_by(case.event)
    if key is None or key == "":
        return None
    if not isinstance(key, str):
        raise TypeError(
            f"ordered_by of handler {route.name} gave {type(key).__name__}, "
            "expected a string or None"
        )
    return key


def _out_of_hand(ending: Retry, place: Place, handler: str) -> Ending:
    """The ending of an event that would be kept in hand for too long.

    Handing back keeps the order, but loses the number of a counted attempt.
    """
    if not ending.counted:
        place.dismiss_line()
        raise NoTurn
    _log.warning(
        "an event is tried again later than it can be kept in hand; those behind it overtake it",
        handler=handler,
        delay=round(ending.delay, 3),
    )
    return ending

"""Whose turn it is: a few handlings of a handler at a time, and one at a time for each key.

Callers wait here in memory, in the order of their arrival, with neither a claim nor a deadline.
Knows no event, no bus and no store.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from chassis.handling.appointments import HOLD_SECONDS, SOON_SECONDS, Appointments, NoTurn
from chassis.handling.pace import Pace


class Slots:
    """At most `limit` at a time, first come, first served.

    At most `room` callers wait for long (None: no limit). The others get a time to come back:
    waiting, they would take all of the prefetch and starve the other handlers. `clock` gives
    seconds.
    """

    def __init__(
        self, limit: int, room: int | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._limit = limit
        self._room = room
        self._clock = clock
        self._taken = 0
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._closed = False
        self._took = 0.0  # seconds that one turn takes, a moving average
        self._appointments = Appointments()

    @property
    def available(self) -> bool:
        """Whether `take` returns at once."""
        return self._taken < self._limit

    async def take(self, *, patient: bool = False) -> float:
        """0 when the turn has come: `free` it afterwards. Otherwise seconds until to come back.

        A `patient` caller is not sent away for want of room. Raises NoTurn.
        """
        if self.available:
            self._taken += 1
            return 0.0
        if self._closed:
            raise NoTurn
        if not patient and self._crowded():
            return self._appointment()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await asyncio.wait({turn}, timeout=HOLD_SECONDS)
        except asyncio.CancelledError:
            if turn.done() and turn.exception() is None:
                self._pass_on()
            raise
        finally:
            self._waiting.pop(turn, None)
        if not turn.done():
            return self._appointment()
        turn.result()
        return 0.0

    def free(self, took: float) -> None:
        """The turn is over after `took` seconds."""
        self._took += (took - self._took) / 8 if self._took else took
        self._pass_on()

    def close(self) -> None:
        """No caller that waits gets a turn any more."""
        self._closed = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(NoTurn())

    def _pass_on(self) -> None:
        """To the next in line, who keeps the place taken."""
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def _crowded(self) -> bool:
        waiting = len(self._waiting)
        return (
            self._room is not None
            and waiting >= self._room
            and waiting * self._between > SOON_SECONDS
        )

    def _appointment(self) -> float:
        """Seconds until the next appointment."""
        now = self._clock()
        free = now + len(self._waiting) * self._between
        return self._appointments.make(now, free, self._between)

    @property
    def _between(self) -> float:
        """Seconds between two turns."""
        return self._took / self._limit


class Lines:
    """A line for each key, in the order of `join`.

    A key takes memory only while its line has a place.
    """

    def __init__(self) -> None:
        self._lines: dict[str, deque[Place]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._lines)

    def join(self, key: str) -> "Place":
        """A place at the end of the line of `key`."""
        line = self._lines.setdefault(key, deque())
        place = Place(key, line, self._left)
        place.dismissed = self._closed
        line.append(place)
        return place

    def close(self) -> None:
        """Send every place away, in order."""
        self._closed = True
        for line in self._lines.values():
            for place in line:
                place.dismiss()

    def _left(self, place: "Place") -> None:
        line = self._lines[place.key]
        line.remove(place)
        if line:
            line[0].bell.set()
        else:
            del self._lines[place.key]


@dataclass(eq=False, slots=True)
class Place:
    """A place in the line of `key`."""

    key: str
    line: "deque[Place]"
    left: "Callable[[Place], None]"
    dismissed: bool = False
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def first(self) -> bool:
        return self.line[0] is self

    async def reached(self, until: float) -> None:
        """Return when this is the first place. Raises NoTurn when it is sent away meanwhile.

        A place that is not first at `until` (the loop's clock) is sent away.
        """
        while not self.first:
            if not await self._rung(until):
                self.dismiss_line()

    async def pause(self, seconds: float) -> None:
        """Stay the first for `seconds`. Raises NoTurn when it is sent away meanwhile."""
        await self._rung(asyncio.get_running_loop().time() + seconds)

    async def _rung(self, until: float) -> bool:
        """Whether the bell rang before `until`. Raises NoTurn."""
        if not self.dismissed:
            try:
                async with asyncio.timeout_at(until):
                    await self.bell.wait()
            except TimeoutError:
                return False
        if self.dismissed:
            raise NoTurn
        self.bell.clear()
        return True

    def dismiss(self) -> None:
        """Send this place away, now or as soon as it waits."""
        self.dismissed = True
        self.bell.set()

    def dismiss_line(self) -> None:
        """Send this place and all behind it away.

        Its event is given back, and no later event may overtake it.
        """
        found = False
        for place in self.line:
            found = found or place is self
            if found:
                place.dismiss()

    def leave(self) -> None:
        """Let the next place come. Does nothing the second time."""
        if self in self.line:
            self.left(self)


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """The turns of a handler: `slots` for `concurrency=`, `pace` for `rate=`, `ordered_by` and its
    `lines`.
    """

    slots: Slots | None = None
    ordered_by: Callable[[Any], object] | None = None
    lines: Lines = field(default_factory=Lines)
    pace: Pace | None = None

    def close(self) -> None:
        """The service drains: events that wait are to be handed back."""
        if self.slots is not None:
            self.slots.close()
        if self.pace is not None:
            self.pace.close()
        self.lines.close()

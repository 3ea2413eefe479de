"""A handler's rate: turns that are evenly spaced in time. Knows no event, no bus and no store."""

import asyncio
import math

from chassis.handling.appointments import HOLD_SECONDS, SOON_SECONDS, Appointments, NoTurn


class Pace:
    """At most `rate` turns a second, one after the other: idle time is not saved up.

    Callers wait in the order of their arrival. At most `room` of them wait for long (None: no
    limit), as with Slots; the others get a time to come back.
    """

    def __init__(self, rate: float, room: int | None = None) -> None:
        self._between = 1 / rate
        self._room = room
        self._free = -math.inf  # the loop's time of the next free turn
        self._waiting = 0
        self._appointments = Appointments()
        self._closed = asyncio.Event()

    @property
    def available(self) -> bool:
        """Whether `take` returns at once."""
        return self._free <= asyncio.get_running_loop().time()

    async def take(self, *, patient: bool = False) -> float:
        """0 when the turn has come. Otherwise seconds until to come back.

        A `patient` caller is not sent away for want of room. Raises NoTurn.
        """
        now = asyncio.get_running_loop().time()
        wait = self._free - now
        if wait <= 0:
            self._free = now + self._between
            return 0.0
        if self._closed.is_set():
            raise NoTurn
        crowded = self._room is not None and self._waiting >= self._room and wait > SOON_SECONDS
        if wait > HOLD_SECONDS or (crowded and not patient):
            return self._appointments.make(now, self._free, self._between)
        self._free += self._between
        self._waiting += 1
        try:
            async with asyncio.timeout(wait):
                await self._closed.wait()
        except TimeoutError:
            return 0.0
        finally:
            self._waiting -= 1
        raise NoTurn

    def close(self) -> None:
        """No caller that waits gets a turn any more."""
        self._closed.set()

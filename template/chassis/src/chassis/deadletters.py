"""Dead letters: select, visit, replay, discard. `bus.dead_letters` has their format.

Works through any bus; prints nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chassis.bus import Bus, DeadLetter, Verdict


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects the dead letters that fit every given field.

    `id_prefix` is the beginning of an id; `older_than` and `newer_than` compare the last failure.
    """

    id_prefix: str = ""
    type: str | None = None
    reason: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None

    def fits(self, letter: DeadLetter, now: datetime) -> bool:
        if not letter.id.startswith(self.id_prefix):
            return False
        if self.type is not None and letter.type != self.type:
            return False
        if self.reason is not None and letter.failure.reason != self.reason:
            return False
        if self.older_than is None and self.newer_than is None:
            return True
        age = _age(letter, now)
        if age is None:
            return False
        return (self.older_than is None or age >= self.older_than) and (
            self.newer_than is None or age < self.newer_than
        )


async def select(bus: Bus, service: str, which: Filter) -> list[DeadLetter]:
    """The dead letters of `service` that fit, oldest first, with their bodies. Changes nothing."""
    met: list[DeadLetter] = []
    await visit(bus, service, which, met.append)
    return met


async def visit(bus: Bus, service: str, which: Filter, see: Callable[[DeadLetter], object]) -> int:
    """Call `see` for each letter that fits, oldest first; returns how many. Changes nothing.

    Keeps no letter in memory.
    """
    seen = 0
    now = datetime.now(UTC)

    async def decide(letter: DeadLetter) -> Verdict:
        nonlocal seen
        if which.fits(letter, now):
            see(letter)
            seen += 1
        return Verdict.KEEP

    await bus.sweep(service, decide)
    return seen


async def replay(
    bus: Bus,
    service: str,
    which: Filter,
    *,
    per_second: float | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> int:
    """Put fitting letters into the service's own queue, at most `per_second`; returns how many."""
    pause = 0.0 if per_second is None else 1.0 / per_second

    async def wait() -> None:
        if pause:
            await sleep(pause)

    return await _sweep(bus, service, which, Verdict.REPLAY, wait)


async def discard(bus: Bus, service: str, which: Filter) -> int:
    """Remove the letters that fit for good; returns how many."""
    return await _sweep(bus, service, which, Verdict.DISCARD)


async def _sweep(
    bus: Bus,
    service: str,
    which: Filter,
    verdict: Verdict,
    before_each: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Keeps no letter in memory: there may be many large ones."""
    met = 0
    now = datetime.now(UTC)

    async def decide(letter: DeadLetter) -> Verdict:
        nonlocal met
        if not which.fits(letter, now):
            return Verdict.KEEP
        if before_each is not None and met:
            await before_each()
        met += 1
        return verdict

    await bus.sweep(service, decide)
    return met


def _age(letter: DeadLetter, now: datetime) -> timedelta | None:
    try:
        return now - datetime.fromisoformat(letter.failure.last_failure)
    except ValueError:
        return None

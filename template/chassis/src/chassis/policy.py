"""What a team wants for one handler: its time, its attempts, its delays, its rate.

Pure: reads what `@service.on` was given. Knows no settings, which hold for everything left out.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite

Seconds = float | timedelta
"""A number of seconds, or a timedelta."""

MOST_ATTEMPTS = 100
_RATE = re.compile(r"(?P<events>\d+(?:\.\d+)?)/(?P<unit>[smh])")
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Policy:
    """Times are seconds, `rate` events a second. None: the service's setting holds."""

    timeout: float | None = None
    attempts: int | None = None
    backoff: float | None = None
    backoff_max: float | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """As it was written at the handler; see Service.on."""

    timeout: Seconds | None = None
    attempts: int | None = None
    backoff: Seconds | tuple[Seconds, Seconds] | None = None
    rate: str | None = None

    def read(self) -> Policy:
        """What it means. Raises ValueError with a sentence that names the option."""
        first, longest = self._backoff()
        return Policy(
            None if self.timeout is None else duration("timeout", self.timeout),
            self._attempts(),
            first,
            longest,
            None if self.rate is None else per_second(self.rate),
        )

    def _attempts(self) -> int | None:
        given: object = self.attempts
        if given is None:
            return None
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MOST_ATTEMPTS:
            raise ValueError(
                f"attempts={given!r} must be a whole number, at least 1, at most {MOST_ATTEMPTS}"
            )
        return given

    def _backoff(self) -> tuple[float | None, float | None]:
        given: object = self.backoff
        if given is None:
            return None, None
        if not isinstance(given, tuple):
            return duration("backoff", given), None
        if len(given) != 2:
            raise ValueError(f"backoff={given!r} must be a time, or the first and the longest one")
        first, longest = (duration("backoff", each) for each in given)
        if first > longest:
            raise ValueError(f"backoff={given!r}: the first time must not be above the longest")
        return first, longest


@dataclass(frozen=True, slots=True)
class Batching:
    """At most `size` events, the first of which waits for at most `wait` seconds."""

    size: int
    wait: Seconds

    @property
    def seconds(self) -> float:
        return duration("wait", self.wait)

    def check(self) -> None:
        """Raises ValueError with a sentence that names the option."""
        size: object = self.size
        if not isinstance(size, int) or isinstance(size, bool) or size < 2:
            raise ValueError(f"size={size!r} must be a whole number of at least 2")
        duration("wait", self.wait)


def duration(option: str, given: object) -> float:
    """Seconds. Raises ValueError for anything but a time above 0."""
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not isfinite(seconds)
        or seconds <= 0
    ):
        raise ValueError(f"{option}={given!r} must be a time above 0, in seconds or as a timedelta")
    return float(seconds)


def per_second(given: object) -> float:
    """Events a second of a rate such as "10/s". Raises ValueError."""
    parts = _RATE.fullmatch(given) if isinstance(given, str) else None
    if parts is None or not (events := float(parts["events"])):
        raise ValueError(f'rate={given!r} must be written like "10/s", "90/m" or "500/h"')
    return events / _UNITS[parts["unit"]]

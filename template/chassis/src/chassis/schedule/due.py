"""When something is due: every so often, or by a cron expression in a time zone.

Pure: every replica computes the same times. Knows no clock.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SHORTEST = timedelta(seconds=1)
_PERIOD = re.compile(r"(?P<number>\d+)(?P<unit>[smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class When(Protocol):
    """The times of a schedule. All are in UTC."""

    def last(self, now: datetime) -> datetime:
        """The latest time up to `now`."""

    def next(self, now: datetime) -> datetime:
        """The first time after `now`."""


@dataclass(frozen=True, slots=True)
class Every:
    """Each `period` since 1970 in UTC, so "1h" is each full hour."""

    period: timedelta

    def last(self, now: datetime) -> datetime:
        return now - (now - datetime.fromtimestamp(0, UTC)) % self.period

    def next(self, now: datetime) -> datetime:
        return self.last(now) + self.period


@dataclass(frozen=True, slots=True)
class Cron:
    """By a cron `expression` on the clocks of `zone`.

    In a change of the clocks it does as Debian's cron: a time that is left out is due right after
    the change, a time that comes twice is due once.
    """

    expression: str
    zone: tzinfo

    def last(self, now: datetime) -> datetime:
        just_after = now + timedelta(seconds=1)
        return self._step(just_after.replace(microsecond=0), backwards=True)

    def next(self, now: datetime) -> datetime:
        return self._step(now, backwards=False)

    def _step(self, now: datetime, *, backwards: bool) -> datetime:
        from cronsim import CronSim  # noqa: PLC0415 - an extra of its own

        found = next(CronSim(self.expression, now.astimezone(self.zone), reverse=backwards))
        return found.astimezone(UTC)


def every(period: str | timedelta) -> Every:
    """From "30s", "5m", "2h", "1d" or a timedelta. Raises ValueError."""
    if isinstance(period, timedelta):
        length = period
    else:
        found = _PERIOD.fullmatch(str(period))
        if found is None:
            raise ValueError(f"{period!r} is no period: write 30s, 5m, 2h or 1d, or a timedelta")
        length = timedelta(**{_UNITS[found["unit"]]: int(found["number"])})
    if length < SHORTEST:
        raise ValueError(f"{period!r} is too short: at least one second")
    return Every(length)


def cron(expression: str, zone: str) -> Cron:
    """Raises ValueError, also without the extra `cron`."""
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an extra of its own
    except ModuleNotFoundError:
        raise ValueError(
            "a cron expression needs the package 'cronsim': add dockyard-chassis[cron] to the "
            "dependencies in pyproject.toml"
        ) from None
    try:
        found = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{zone!r} is no time zone, such as Europe/Berlin") from None
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=found)))
    except CronSimError as error:
        raise ValueError(f"{expression!r} is no cron expression: {error}") from None
    except StopIteration:
        raise ValueError(f"{expression!r} is never due") from None
    return Cron(expression, found)

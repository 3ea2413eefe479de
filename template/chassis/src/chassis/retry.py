"""Which failure is retried, when, and how often. A bus may round the delay up.

Pure: time and randomness come in from outside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chassis.backoff import backoff
from chassis.reasons import Reason

SOON_SECONDS = 0.2
"""What waits for a time comes back at half of it again and again, until less than this is left."""
LONGEST_SECONDS = 3600.0
"""It comes back this often at least: a stream drops what waits for longer than it keeps."""


class Reject(Exception):
    """Raised by a handler: this event will never work.

    It goes to the dead letters at once, with this reason.
    """


class RetryAfter(Exception):
    """Raised by a handler: try again after `seconds`, at most the policy's `max_age`.

    Counts as an attempt.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason or f"retry after {seconds:g} s")
        self.seconds = max(0.0, seconds)


class SetupFault(RuntimeError):
    """The service is set up so that a handler cannot work; the message says how to mend it."""


class Doomed(Reject):
    """Raised by the chassis amid a handling: no attempt will help, for `reason`."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchProcess(Exception):
    """Raised by the chassis: the event is about a process that has not started (yet)."""


class NotYet(Exception):
    """Raised by the chassis amid a handling: try again after `seconds`.

    Nothing has failed, and no attempt is used up.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not yet, again after {seconds:g} s")
        self.seconds = seconds


def not_before(due: datetime, now: datetime) -> None:
    """Raises NotYet until it is time.

    A bus may round a delay up, to at most twice its length. Therefore what waits comes back at half
    of its time again and again.
    """
    early = (due - now).total_seconds()
    if early > 0:
        raise NotYet(min(early / 2, LONGEST_SECONDS) if early > SOON_SECONDS else early)


@dataclass(frozen=True, slots=True)
class Later:
    """Try again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt, for one of the chassis' own reasons."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, from `backoff` up to `backoff_max` seconds."""

    max_attempts: int
    backoff: float
    backoff_max: float
    max_age: float

    def decide(
        self,
        error: BaseException,
        attempt: int,
        age: timedelta,
        random: Callable[[], float],
        *,
        forgiven: bool = False,
    ) -> Later | Dead:
        """The retry or the end that follows the failure of attempt number `attempt` (from 1).

        `age` is the time since the first failure. A `forgiven` failure is not the last, at any
        number. `random` gives a number in [0, 1).
        """
        if isinstance(error, Reject):
            return Dead(error.reason if isinstance(error, Doomed) else "rejected")
        if attempt >= self.max_attempts and not forgiven:
            missing = isinstance(error, NoSuchProcess)
            return Dead("no_such_process" if missing else "attempts_exhausted")
        if age.total_seconds() >= self.max_age:
            return Dead("expired")
        if isinstance(error, RetryAfter):
            return Later(min(error.seconds, self.max_age))
        return Later(backoff(attempt, self.backoff, self.backoff_max, random))


def age_since(first_failure: str, now: datetime) -> timedelta:
    """Time since an RFC 3339 `first_failure`; zero when there was none or it cannot be read."""
    try:
        return now - datetime.fromisoformat(first_failure)
    except (ValueError, TypeError):
        return timedelta()

"""The history of a message: attempts, first failure, replays, and the headers that carry them.

Only a copy that the chassis makes has a history. The headers of an event as its publisher sent it
have no say, so an adapter reads them from copies alone. Even there anybody can write: a value that
the chassis never writes counts as absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from chassis.contracts.envelope import format_time

ATTEMPT = "chassis-attempt"
FIRST_FAILURE = "chassis-first-failure"
REPLAYS = "chassis-replays"
HISTORY_HEADERS = frozenset({ATTEMPT, FIRST_FAILURE, REPLAYS})

MOST_ATTEMPTS = 1000
"""No setting allows as many."""
MOST_REPLAYS = 10**9


@dataclass(frozen=True, slots=True)
class History:
    """`attempt` is 1 at first; `first_failure` is an RFC 3339 time, empty if nothing has failed.
    `replays` says how often the message has come back from the dead letters.

    An attempt that does not count, such as a hand-back, leaves the history as it is.
    """

    attempt: int = 1
    first_failure: str = ""
    replays: int = 0

    def failed(self, now: datetime) -> "History":
        """The history once the attempt has failed at `now`."""
        return History(self.attempt + 1, self.first_failure or format_time(now), self.replays)

    def replayed(self) -> "History":
        """The history of a dead letter that becomes a first attempt again."""
        return History(replays=self.replays + 1)

    def headers(self) -> dict[str, str | int]:
        """The headers that `read` understands."""
        headers: dict[str, str | int] = {ATTEMPT: self.attempt}
        if self.first_failure:
            headers[FIRST_FAILURE] = self.first_failure
        if self.replays:
            headers[REPLAYS] = self.replays
        return headers

    @classmethod
    def read(cls, headers: Mapping[str, object]) -> "History":
        """The history of a copy with these headers."""
        return cls(
            number(headers.get(ATTEMPT), 1, MOST_ATTEMPTS),
            _time(headers.get(FIRST_FAILURE)),
            number(headers.get(REPLAYS), 0, MOST_REPLAYS),
        )


def number(value: object, least: int, most: int) -> int:
    """`value`, a number or its digits; `least` if it is out of bounds."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and least <= value <= most else least


def _time(value: object) -> str:
    try:
        known = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return ""
    return str(value) if known else ""

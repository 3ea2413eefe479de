"""Counts outside the services: the published events against the calls that reached the provider.

The provider stands for the world outside. It honours idempotency keys: an effect is a distinct key.
An event under two keys has two effects.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ledger:
    """The sums at the end. All but `published` and the repeats count pairs of event and service."""

    published: int
    handled: int
    duplicates_ignored: int
    dead: int
    lost: int
    twice: int
    repeats_refused: int
    """Calls without effect after a kill: the provider knew their key."""

    @property
    def balanced(self) -> bool:
        """No event is lost, and none had two effects."""
        return self.lost == 0 and self.twice == 0

    def __str__(self) -> str:
        return (
            f"published={self.published} handled={self.handled} "
            f"duplicates_ignored={self.duplicates_ignored} "
            f"dead={self.dead} lost={self.lost} twice={self.twice}"
        )


class Provider:
    """The record of all calls, in a database at `path` that the services write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as records:
            records.execute("PRAGMA journal_mode=WAL")
            records.execute("CREATE TABLE calls (service TEXT, event_id TEXT, key TEXT)")
            records.commit()

    def effects(self) -> Counter[tuple[str, str]]:
        """Effects by service and event id."""
        rows = self._query(
            "SELECT service, event_id, COUNT(DISTINCT key) FROM calls GROUP BY service, event_id"
        )
        return Counter({(service, event_id): count for service, event_id, count in rows})

    def handled(self, service: str, events: Iterable[str]) -> int:
        """How many of `events` had their effect for `service`."""
        effects = self.effects()
        return sum((service, event) in effects for event in events)

    def repeats(self) -> int:
        """The number of calls under a key that the provider knew already."""
        return int(self._query("SELECT COUNT(*) - COUNT(DISTINCT service || key) FROM calls")[0][0])

    def _query(self, statement: str) -> list[tuple[str, str, int]]:
        with closing(sqlite3.connect(self.path, timeout=30)) as records:
            return records.execute(statement).fetchall()


def balance(
    provider: Provider,
    published: Iterable[str],
    services: Iterable[str],
    dead: Counter[str],
    duplicates_ignored: int,
) -> Ledger:
    """The ledger of the event ids in `published`, which each of `services` must handle once.

    `dead` counts the dead letters of each service.
    """
    effects = provider.effects()
    events, takers = set(published), list(services)
    expected = [(service, event) for service in takers for event in events]
    missing = Counter(service for service, event in expected if (service, event) not in effects)
    return Ledger(
        published=len(events),
        handled=sum(pair in effects for pair in expected),
        duplicates_ignored=duplicates_ignored,
        dead=dead.total(),
        lost=sum(max(0, missing[service] - dead[service]) for service in takers),
        twice=sum(count - 1 for count in effects.values() if count > 1),
        repeats_refused=provider.repeats(),
    )

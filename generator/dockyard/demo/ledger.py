"""Counts what really happened, outside the services: what was published against what reached the provider.

The provider stands for the world outside. It honours idempotency keys, so an effect is a distinct key;
the same event under two keys would be an effect twice.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ledger:
    """The sums at the end. `handled`, `dead`, `lost` and `twice` count pairs of event and service."""

    published: int
    handled: int
    duplicates_ignored: int
    dead: int
    lost: int
    twice: int
    repeats_refused: int
    """Calls that the provider refused because it knew their key: repeats after a kill, without effect."""

    @property
    def balanced(self) -> bool:
        """Nothing is lost and nothing happened twice."""
        return self.lost == 0 and self.twice == 0

    def __str__(self) -> str:
        return (
            f"published={self.published} handled={self.handled} duplicates_ignored={self.duplicates_ignored} "
            f"dead={self.dead} lost={self.lost} twice={self.twice}"
        )


class Provider:
    """The record of all calls, in a database that the services write to."""

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
        """How many of `events` have had their effect for `service`."""
        effects = self.effects()
        return sum((service, event) in effects for event in events)

    def repeats(self) -> int:
        """Calls under a key that was known already."""
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
    """The ledger of `published` event ids, each of which every one of `services` had to handle once.

    `dead` counts by service the events that lie in its dead letters.
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

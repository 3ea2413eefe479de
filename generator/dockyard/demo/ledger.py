"""Counts outside the services: what was published against the calls that reached the provider.

The provider stands for the world outside. It honours idempotency keys: a distinct key is an effect.
A sign-up has an effect by each service that takes it. An order ends shipped or refunded.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Ledger:
    """The sums at the end. A sign-up counts as handled, dead, lost or twice for each service."""

    published: int
    """Sign-ups and orders."""
    handled: int
    undone: int
    """Orders that ended with their money returned."""
    duplicates_ignored: int
    dead: int
    lost: int
    twice: int
    repeats_refused: int
    """Calls without effect after a kill: the provider knew their key."""

    @property
    def balanced(self) -> bool:
        """Nothing is lost, and nothing happened twice."""
        return self.lost == 0 and self.twice == 0

    def __str__(self) -> str:
        return (
            f"published={self.published} handled={self.handled} undone={self.undone} "
            f"duplicates_ignored={self.duplicates_ignored} "
            f"dead={self.dead} lost={self.lost} twice={self.twice}"
        )


class Provider:
    """The record of all calls, in a database at `path` that the services write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as records:
            records.execute("PRAGMA journal_mode=WAL")
            records.execute("CREATE TABLE calls (service TEXT, effect TEXT, key TEXT, at REAL)")
            records.commit()

    def effects(self) -> Counter[tuple[str, str]]:
        """How often each service had each effect."""
        rows = self._query(
            "SELECT service, effect, COUNT(DISTINCT key) FROM calls GROUP BY service, effect"
        )
        return Counter({(service, effect): count for service, effect, count in rows})

    def handled(self, service: str, events: Iterable[str]) -> int:
        """How many of `events` had their effect for `service`."""
        effects = self.effects()
        return sum((service, event) in effects for event in events)

    def done(self, effect: str, orders: Iterable[str]) -> set[str]:
        """Those of `orders` that had this effect: charge, ship, refund or remind."""
        effects = {name for _, name in self.effects()}
        return {order for order in orders if f"{effect} {order}" in effects}

    def calls(self, effect: str) -> int:
        """The number of calls for `effect`, repeats included."""
        return int(self._query("SELECT COUNT(*) FROM calls WHERE effect = ?", effect)[0][0])

    def moment(self, effect: str) -> float:
        """Unix time of the first call for `effect`."""
        ((at,),) = self._query("SELECT MIN(at) FROM calls WHERE effect = ?", effect)
        return float(at)

    def repeats(self) -> int:
        """The number of calls under a key that the provider knew already."""
        return int(self._query("SELECT COUNT(*) - COUNT(DISTINCT service || key) FROM calls")[0][0])

    def _query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=30)) as records:
            return records.execute(statement, values).fetchall()


def balance(
    provider: Provider,
    published: Iterable[str],
    services: Iterable[str],
    orders: Iterable[str],
    *,
    dead: Counter[str],
    duplicates_ignored: int,
) -> Ledger:
    """The ledger of the sign-ups in `published`, which each of `services` takes, and of `orders`.

    `dead` counts the dead letters of each service. A dead letter excuses no order.
    """
    effects = provider.effects()
    events, placed, takers = set(published), set(orders), list(services)
    expected = [(service, event) for service in takers for event in events]
    missing = Counter(service for service, event in expected if (service, event) not in effects)
    shipped, undone = provider.done("ship", placed), provider.done("refund", placed)
    lost = sum(max(0, missing[service] - dead[service]) for service in takers)
    twice = sum(count - 1 for count in effects.values() if count > 1)
    return Ledger(
        published=len(events) + len(placed),
        handled=len(expected) - missing.total() + len(shipped | undone),
        undone=len(undone),
        duplicates_ignored=duplicates_ignored,
        dead=dead.total(),
        lost=lost + len(placed - shipped - undone),
        twice=twice + len(shipped & undone),
        repeats_refused=provider.repeats(),
    )

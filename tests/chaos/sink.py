"""The world outside: records every effect of the handlers, and tells the repeats among them."""

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.chaos.diary import Diary
from tests.chaos.repeats import Effects, Repeat, Turn, judged

_NOW = "(julianday('now') - 2440587.5) * 86400"
"""Seconds since the epoch, in SQLite."""


class Sink:
    """Two tables that all replicas write to: effects, and the handlings of published events."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as table:
            table.execute("PRAGMA journal_mode=WAL")
            table.execute(
                "CREATE TABLE effects"
                f" (event_id TEXT, key TEXT, pid INTEGER, at REAL DEFAULT ({_NOW}))"
            )
            table.execute(
                "CREATE TABLE published"
                " (cause TEXT, event_id TEXT, key TEXT, pid INTEGER, begun REAL, over REAL)"
            )

    def handled(self) -> set[str]:
        return {row[0] for row in self._rows("SELECT DISTINCT event_id FROM effects")}

    def has(self, prefix: str) -> bool:
        """Whether an event whose id begins so has had its effect."""
        return bool(self._rows("SELECT 1 FROM effects WHERE event_id GLOB ? LIMIT 1", f"{prefix}*"))

    def published(self) -> dict[str, set[str]]:
        """For each event whose outgoing one was handled, the ids that this one came with."""
        ids: dict[str, set[str]] = defaultdict(set)
        for cause, id_ in self._rows("SELECT DISTINCT cause, event_id FROM published"):
            ids[cause].add(id_)
        return dict(ids)

    def turns(self) -> list[Turn]:
        """The handlings that had an order, as far as they came to their end."""
        return [
            Turn(*row)
            for row in self._rows(
                "SELECT key, begun, over, pid, cause FROM published WHERE key IS NOT NULL"
            )
        ]

    def executions(self) -> Counter[str]:
        """How often each event had its effect."""
        return Counter(dict(self._rows("SELECT event_id, COUNT(*) FROM effects GROUP BY event_id")))

    def effects(self, diary: Diary) -> Effects:
        """`diary` says what can have been the cause of a repeat."""
        executions: dict[str, list[tuple[int, float]]] = defaultdict(list)
        keys: dict[str, set[str]] = defaultdict(set)
        for event, key, pid, at in self._rows(
            "SELECT event_id, key, pid, at FROM effects ORDER BY rowid"
        ):
            executions[event].append((pid, at))
            keys[event].add(key)
        repeats = [
            Repeat(event, *before, *after)
            for event, times in executions.items()
            for before, after in pairwise(times)
        ]
        twice = [event for event, seen in keys.items() if len(seen) > 1]
        return judged(repeats, diary, executions.keys(), twice)

    def _rows(self, query: str, *values: str) -> list[Any]:
        with closing(sqlite3.connect(self.path, timeout=60)) as table:
            return table.execute(query, values).fetchall()

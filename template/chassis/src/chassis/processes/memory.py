"""Processes in this process, for tests and `memory://`: not for production."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from chassis.processes.store import (
    Address,
    Conflict,
    Record,
    Stored,
    Tally,
    encoded,
    readable,
    tally_of,
)

if TYPE_CHECKING:
    from psycopg import AsyncConnection


@dataclass(frozen=True, slots=True)
class _Kept:
    stored: Stored
    until: float | None


class MemoryProcesses:
    """`clock` gives seconds; tests pass their own."""

    transactional = False

    def __init__(self, retention_seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._retention = retention_seconds
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    async def open(self) -> None:
        return None

    async def load(
        self, address: Address, within: "AsyncConnection[tuple[Any, ...]] | None" = None
    ) -> Stored | None:
        return self._find(address.id)

    async def save(
        self,
        record: Record,
        revision: int,
        within: "AsyncConnection[tuple[Any, ...]] | None" = None,
    ) -> None:
        id_ = record.address.id
        found = self._find(id_)
        if (0 if found is None else found.revision) != revision:
            raise Conflict(id_)
        until = None if record.status == "active" else self._clock() + self._retention
        self._kept[id_] = _Kept(Stored(id_, encoded(record), revision + 1), until)

    async def records(self) -> AsyncIterator[Stored]:
        for id_ in list(self._kept):
            if (found := self._find(id_)) is not None:
                yield found

    async def tally(self) -> Sequence[Tally]:
        return tally_of([record async for record in readable(self.records())])

    async def close(self) -> None:
        return None

    def _find(self, id_: str) -> Stored | None:
        kept = self._kept.get(id_)
        if kept is not None and kept.until is not None and kept.until <= self._clock():
            del self._kept[id_]
            return None
        return None if kept is None else kept.stored

"""Batches that begin without a clock, for tests: as soon as no other event can join them."""

import asyncio
from collections.abc import Iterable
from typing import Any


class Flushing:
    """Begins the batches in `gatherings` as soon as no other event can join them."""

    def __init__(self, gatherings: Iterable[Any]) -> None:
        self._gatherings = list(gatherings)
        self._under_way = 0
        for gathering in self._gatherings:
            gathering.on_join = self._look

    async def handled(self, handling: asyncio.Task[None]) -> None:
        """Return when `handling` has ended."""
        self._under_way += 1
        try:
            await handling
        finally:
            self._under_way -= 1
            self._look()

    def _look(self) -> None:
        if sum(gathering.in_hand for gathering in self._gatherings) == self._under_way:
            for gathering in self._gatherings:
                gathering.flush()

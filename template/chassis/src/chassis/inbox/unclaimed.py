"""Claims for handlers that every replica runs: each is given and nothing is kept, because nobody shares the work.

Such an event is handled at least once in each replica: a second delivery of it is handled again. Asks no store.
"""

from itertools import count

from chassis.inbox import Lease


class Unclaimed:
    """An inbox that refuses nothing. Fences grow within this process."""

    def __init__(self) -> None:
        self._fences = count(1)

    async def open(self) -> None:
        return None

    async def claim(self, key: str, digest: str) -> Lease:
        return Lease(key, digest, next(self._fences))

    async def extend(self, lease: Lease) -> Lease:
        return lease

    async def complete(self, lease: Lease) -> None:
        return None

    async def release(self, lease: Lease) -> None:
        return None

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None

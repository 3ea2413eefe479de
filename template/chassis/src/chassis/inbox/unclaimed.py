"""Claims for handlers that every replica runs. Each is granted and none is kept: no work is shared.

Each replica handles the event at least once, and a second delivery once more. Asks no store.
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

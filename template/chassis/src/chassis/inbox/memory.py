"""An inbox in this process, for tests and `memory://`: not for production."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from time import monotonic

from chassis.inbox import Lease, LeaseLost, Refusal, Refused


@dataclass(slots=True)
class _Record:
    digest: str
    fence: int
    until: float
    done: bool = False


class MemoryInbox:
    """`clock` gives seconds; tests pass their own."""

    def __init__(
        self, lease_seconds: float, retention_seconds: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._lease = lease_seconds
        self._retention = retention_seconds
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._fences = count(1)

    async def open(self) -> None:
        return None

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        now = self._clock()
        record = self._records.get(key)
        if record is not None and record.until > now:
            if record.digest != digest:
                return Refused(Refusal.MISMATCH)
            if record.done:
                return Refused(Refusal.DUPLICATE)
            return Refused(Refusal.BUSY, record.until - now)
        self._expire(now)
        fence = next(self._fences)
        self._records[key] = _Record(digest, fence, now + self._lease)
        return Lease(key, digest, fence)

    async def extend(self, lease: Lease) -> Lease:
        self._owned(lease).until = self._clock() + self._lease
        return lease

    async def complete(self, lease: Lease) -> None:
        record = self._owned(lease)
        record.done = True
        record.until = self._clock() + self._retention

    async def release(self, lease: Lease) -> None:
        record = self._records.get(lease.key)
        if record is not None and record.fence == lease.fence and not record.done:
            del self._records[lease.key]

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _owned(self, lease: Lease) -> _Record:
        record = self._records.get(lease.key)
        if (
            record is None
            or record.fence != lease.fence
            or record.done
            or record.until <= self._clock()
        ):
            raise LeaseLost(lease.key)
        return record

    def _expire(self, now: float) -> None:
        """Drop expired records, oldest first; each claim drops at most two."""
        for _ in range(2):
            oldest = next(iter(self._records), None)
            if oldest is None or self._records[oldest].until > now:
                return
            del self._records[oldest]

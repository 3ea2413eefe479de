"""Keeps the leases of running handlers alive: one task for all of them, no timer for each.

A handler whose lease is lost is cancelled, because somebody else may be at work on the event. One that has returned is
not: the effect has happened, and its lease, when it is over because the store was away, is claimed again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import structlog

from chassis.inbox import Inbox, InboxUnavailable, Lease, LeaseLost, Refused, Transaction

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Work:
    """A handler at work in `task`, under `lease` until at least `until` (the keeper's clock).

    `transaction` is that of the handler, if it asked for one: then this holds the claim, not the lease.
    `ended`: the handler has returned; nothing may begin a transaction any more, and nothing is cancelled: what is left
    to do does not need the lease. `beside` is work of the same task that ends with it. `returned`: it is the handler of
    this very work that has returned.
    """

    task: asyncio.Task[Any]
    lease: Lease
    until: float
    lost: bool = False
    ended: bool = False
    returned: bool = False
    transaction: Transaction | None = None
    beside: "Work | None" = None
    beginning: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    extending: asyncio.Event | None = field(default=None, repr=False)

    def end(self) -> None:
        """The handler has returned."""
        self.ended = self.returned = True
        if self.beside is not None:
            self.beside.ended = True


class LeaseKeeper:
    """`seconds` is the lease's term; each lease is extended once less than two thirds of it are left.

    `on_unavailable` is told when the store does not answer, also while no lease is held. `clock` gives seconds; tests
    pass their own.
    """

    def __init__(
        self,
        inbox: Inbox,
        seconds: float,
        on_lost: Callable[[], None],
        on_unavailable: Callable[[InboxUnavailable], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._inbox = inbox
        self._seconds = seconds
        self._on_lost = on_lost
        self._on_unavailable = on_unavailable
        self._clock = clock
        self._held: set[Work] = set()

    def hold(
        self, task: asyncio.Task[Any], lease: Lease, asked_at: float, *, beside: Work | None = None
    ) -> Work:
        """Keep `lease`, which was asked for at `asked_at`, alive while `task` runs, until `let_go`."""
        work = Work(task, lease, asked_at + self._seconds, beside=beside)
        if beside is not None:
            beside.ended = False
        self._held.add(work)
        return work

    async def let_go(self, work: Work) -> Lease:
        """The lease as it is now; it is not extended any more. Raises LeaseLost."""
        self._held.discard(work)
        if work.extending is not None:
            await work.extending.wait()
        if work.lost:
            raise LeaseLost(work.lease.key)
        return work.lease

    def seconds_left(self, work: Work) -> float:
        """For how long the lease surely holds."""
        return work.until - self._clock()

    async def run(self) -> None:
        """Extend what is due, for ever; with nothing in hand, see whether the store is there."""
        while True:
            await asyncio.sleep(self._seconds / 6)
            if self._held:
                await self.extend_due()
            else:
                await self._look()

    async def extend_due(self) -> None:
        """Extend each lease of which less than two thirds are left."""
        due = self._seconds * 2 / 3
        await asyncio.gather(
            *(self._extend(work) for work in list(self._held) if self.seconds_left(work) < due)
        )

    async def _extend(self, work: Work) -> None:
        work.extending = asyncio.Event()
        asked_at = self._clock()
        try:
            work.lease = await self._kept(work)
            work.until = asked_at + self._seconds
        except LeaseLost:
            self._lose(work)
        except InboxUnavailable as error:
            _log.warning("a lease could not be extended", error=str(error))
            self._on_unavailable(error)
            if self.seconds_left(work) <= 0 and not work.returned:
                self._lose(work)
        except Exception:  # noqa: BLE001 - logged with its stack; the other leases must be kept alive
            _log.exception("a defect of the inbox adapter: a lease could not be extended")
        finally:
            work.extending.set()
            work.extending = None

    async def _kept(self, work: Work) -> Lease:
        """The lease of `work` for another term. Raises LeaseLost, InboxUnavailable."""
        try:
            return await self._inbox.extend(work.lease)
        except LeaseLost:
            if not work.returned:
                raise
            claim = await self._inbox.claim(work.lease.key, work.lease.digest)
            if isinstance(claim, Refused):
                raise
            self._on_lost()  # it was over for a while, whoever noticed
            return claim

    async def _look(self) -> None:
        try:
            await self._inbox.ping()
        except InboxUnavailable as error:
            self._on_unavailable(error)
        except Exception:  # noqa: BLE001 - logged with its stack; this task keeps the leases of everything to come
            _log.exception("a defect of the inbox adapter: its ping failed")

    def _lose(self, work: Work) -> None:
        """Count the lost lease and cancel the handler, unless it has returned."""
        work.lost = True
        self._on_lost()
        if work in self._held:
            self._held.discard(work)
            if not work.ended:
                work.task.cancel()

"""Keeps the leases of running handlers alive: one task for all of them, no timer for each.

A handler whose lease is lost is cancelled, because another replica may be at work on the event. A
handler that has returned is not cancelled: its effect has happened. If its lease is over, the event
is claimed again to complete it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from typing import Any

import structlog

from chassis.inbox import Inbox, InboxUnavailable, Lease, LeaseLost, Refused, Transaction

_log = structlog.get_logger(__name__)


class Phase(Enum):
    """Where work stands; the LeaseKeeper alone changes it.

    - The claim of an event: HANDLING, then RETURNED once its handler has returned.
    - The claim of a key: HANDLING during an attempt at its event, IDLE between two attempts.
    - Either may be LOST. A lost claim of an event that has RETURNED may be claimed again.
    """

    HANDLING = "handling"
    RETURNED = "returned"
    IDLE = "idle"
    LOST = "lost"


# Asked for each event, and an enum's attribute is slower.
_HANDLING, _RETURNED, _IDLE, _LOST = Phase.HANDLING, Phase.RETURNED, Phase.IDLE, Phase.LOST


@dataclass(eq=False, slots=True)
class Work:
    """Work of `task` under `lease`, which `inbox` gave.

    The lease holds at least until `until` (the keeper's clock). `transaction` is the transaction
    that the handler asked for, if any: it then holds the claim instead of the lease. `beside` is
    the claim of the event's key, held by the same task.
    """

    task: asyncio.Task[Any]
    inbox: Inbox
    lease: Lease
    until: float
    phase: Phase
    beside: "Work | None" = None
    transaction: Transaction | None = None
    extending: asyncio.Event | None = field(default=None, repr=False)
    _beginning: asyncio.Lock | None = field(default=None, repr=False)

    @property
    def beginning(self) -> asyncio.Lock:
        """Held while a transaction begins. Few handlers ask for one."""
        if self._beginning is None:
            self._beginning = asyncio.Lock()
        return self._beginning

    @property
    def lost(self) -> bool:
        """True if another replica may have the claim."""
        return self.phase is _LOST


class LeaseKeeper:
    """Extends the leases that `inbox` gave, once less than two thirds of their `seconds` are left.

    `count_lost` is called once for each lease that is lost. `on_unavailable` is told when the store
    does not answer, also while no lease is held. `clock` gives seconds.
    """

    def __init__(
        self,
        inbox: Inbox,
        seconds: float,
        count_lost: Callable[[], None],
        on_unavailable: Callable[[InboxUnavailable], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._inbox = inbox
        self._seconds = seconds
        self._count_lost = count_lost
        self._on_unavailable = on_unavailable
        self._clock = clock
        self._held: set[Work] = set()

    def hold(
        self,
        task: asyncio.Task[Any],
        inbox: Inbox,
        lease: Lease,
        asked_at: float,
        *,
        beside: Work | None = None,
    ) -> Work:
        """Keep `lease`, asked of `inbox` at `asked_at`, alive for a handler in `task`.

        It is kept until `let_go`. A claim of a key that was lost meanwhile cancels `task`.
        """
        work = Work(task, inbox, lease, asked_at + self._seconds, _HANDLING, beside)
        self._keep(work)
        if beside is not None:
            if beside.lost:
                task.cancel()
            else:
                beside.phase = _HANDLING
        return work

    def hold_key(
        self, task: asyncio.Task[Any], inbox: Inbox, lease: Lease, asked_at: float
    ) -> Work:
        """As `hold`, for the claim of a key.

        No handler is at work until `hold` is called beside it.
        """
        work = Work(task, inbox, lease, asked_at + self._seconds, _IDLE)
        self._keep(work)
        return work

    def _keep(self, work: Work) -> None:
        if work.inbox is self._inbox:  # claims of any other inbox are this process's own
            self._held.add(work)

    def returned(self, work: Work) -> None:
        """The handler has returned, or raised.

        From now on it can begin no transaction, and nothing is cancelled.
        """
        if work.phase is _HANDLING:
            work.phase = _RETURNED
        beside = work.beside
        if beside is not None and beside.phase is _HANDLING:
            beside.phase = _IDLE

    def lose(self, work: Work) -> None:
        """The lease is lost. Does nothing the second time."""
        if work.lost:
            return
        handling, work.phase = work.phase is _HANDLING, _LOST
        self._count_lost()
        if handling and work in self._held:
            work.task.cancel()

    async def claim_again(self, work: Work) -> Refused | None:
        """Claim a lost event again whose handler has returned; None if it worked.

        Raises InboxUnavailable.
        """
        asked_at = self._clock()
        claim = await work.inbox.claim(work.lease.key, work.lease.digest)
        if isinstance(claim, Refused):
            return claim
        work.lease, work.until, work.phase = claim, asked_at + self._seconds, _RETURNED
        return None

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
        """Extend due leases, for ever; with nothing in hand, see whether the store is there."""
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
            *(
                self._extend(work)
                for work in list(self._held)
                if not work.lost and self.seconds_left(work) < due
            )
        )

    async def _extend(self, work: Work) -> None:
        work.extending = asyncio.Event()
        try:
            await self._prolong(work)
        except InboxUnavailable as error:
            _log.debug("a lease could not be extended", error=str(error))
            self._on_unavailable(error)
            if self.seconds_left(work) <= 0 and work.phase is not _RETURNED:
                self.lose(work)
        except Exception:  # noqa: BLE001 - logged with its stack; the other leases must be kept alive
            _log.exception("a defect of the inbox adapter: a lease could not be extended")
        finally:
            work.extending.set()
            work.extending = None

    async def _prolong(self, work: Work) -> None:
        """Another term for the lease of `work`, or its loss. Raises InboxUnavailable."""
        asked_at = self._clock()
        try:
            work.lease = await work.inbox.extend(work.lease)
        except LeaseLost:
            effect_has_happened = work.phase is _RETURNED
            self.lose(work)
            if effect_has_happened:
                await self.claim_again(work)
        else:
            work.until = asked_at + self._seconds

    async def _look(self) -> None:
        try:
            await self._inbox.ping()
        except InboxUnavailable as error:
            self._on_unavailable(error)
        except Exception:  # noqa: BLE001 - logged with its stack; this task keeps the leases of everything to come
            _log.exception("a defect of the inbox adapter: its ping failed")

"""An outage of the inbox store: the bus is paused until the store takes writes again, by itself."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import Context
from time import monotonic

import structlog

from chassis.backoff import backoff, steady
from chassis.handling.pauses import Pauses
from chassis.inbox import Inbox, InboxUnavailable

_log = structlog.get_logger(__name__)


_STEADY_SECONDS = 5.0
"""A store that fails again sooner than this after its return has not really come back."""
_RELAPSE_MAX_SECONDS = 15.0

GRACE_SECONDS = 2.5
"""From the return of a store until all replicas have found it and kept their claims.

It follows from how soon clients reconnect.
"""


class StoreOutage:
    """Nothing is handled without a claim, so nothing is taken while claims cannot be asked for.

    A write is tried every `probe_seconds`. When it works, `keep` extends the claims of this
    replica. After more than `short_seconds` leases may be over: then nothing is taken until the
    other replicas have extended theirs too.

    A store that is nearly full takes a few writes and fails again. The wait before the first try
    then grows with each relapse.
    """

    def __init__(
        self,
        inbox: Inbox,
        pauses: Pauses,
        keep: Callable[[], Awaitable[None]],
        *,
        probe_seconds: float,
        short_seconds: float,
    ) -> None:
        self._inbox = inbox
        self._pauses = pauses
        self._keep = keep
        self._probe_seconds = probe_seconds
        self._short_seconds = short_seconds
        self._recovery: asyncio.Task[None] | None = None
        self._stopped = False
        self._relapses = 0
        self._back_at = -math.inf

    @property
    def active(self) -> bool:
        return self._recovery is not None

    def report(self, error: InboxUnavailable) -> None:
        """The store failed: pause the bus, unless that is under way already."""
        if self._recovery is None and not self._stopped:
            relapsed = monotonic() - self._back_at < _STEADY_SECONDS
            self._relapses = self._relapses + 1 if relapsed else 0
            _log.error("the inbox store is not reachable, the consumer pauses", error=str(error))
            self._pauses.hold("store")
            # A context of its own, not the context of one event.
            self._recovery = asyncio.create_task(self._recover(), context=Context())

    def stop(self) -> None:
        """Ask the store no more: the service drains."""
        self._stopped = True
        if self._recovery is not None:
            self._recovery.cancel()

    async def _recover(self) -> None:
        begun = monotonic()
        await self._pauses.in_effect()
        if self._relapses:
            await asyncio.sleep(
                backoff(self._relapses, self._probe_seconds, _RELAPSE_MAX_SECONDS, steady)
            )
        while not await self._answers():  # noqa: ASYNC110 - the store sends no event
            await asyncio.sleep(self._probe_seconds)
        await self._keep()
        if monotonic() - begun > self._short_seconds:
            await asyncio.sleep(GRACE_SECONDS)
        self._recovery = None
        self._back_at = monotonic()
        _log.info("the inbox store is back, the consumer resumes")
        self._pauses.lift("store")

    async def _answers(self) -> bool:
        try:
            await self._inbox.ping()
        except InboxUnavailable:
            return False
        except Exception:  # noqa: BLE001 - logged with its stack; a pause must not become one without end
            _log.exception("a defect of the inbox adapter: its ping failed")
            return False
        return True

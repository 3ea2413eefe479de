"""How a delivery ends: one of five outcomes on the bus, its metric and its line in the log.

Knows deliveries and how attempts end. Knows no handler, no store and no broker.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

from chassis.bus import BusUnavailable, Delivery, Failure, Unpublishable
from chassis.contracts.envelope import Envelope
from chassis.handling.attempts import Case
from chassis.handling.endings import End, Ending, Retry
from chassis.handling.surroundings import Surroundings
from chassis.telemetry.metrics import TypeMetrics

# Asked for each event, and an enum's attribute is slower.
_DONE, _DUPLICATE = End.DONE, End.DUPLICATE

_log = structlog.get_logger(__name__)


class Measured(Protocol):
    """Counts the outcomes of one event type."""

    @property
    def metrics(self) -> TypeMetrics: ...


class Settling:
    """Settles the deliveries of one way in; `known` and `unknown` count them by type.

    A delivery whose connection is gone settles nothing, so nothing is counted or logged.

    Without `buries` this way in has no dead letters: an event that ends badly is given up in this
    replica.
    """

    def __init__(
        self,
        known: Mapping[str, Measured],
        unknown: TypeMetrics,
        around: Surroundings,
        *,
        buries: bool,
    ) -> None:
        self._known = known
        self._unknown = unknown
        self._buries = buries
        self._judge = around.judge
        self._failures = around.failures
        self._count_dead = around.metrics.dead
        self._probe_seconds = around.limits.probe

    async def settle(self, case: Case, metrics: TypeMetrics, endings: Sequence[Ending]) -> None:
        """One outcome for all handlers of the event.

        While one handler is to try again, the delivery is neither acknowledged nor a dead letter.
        """
        delivery = case.delivery
        if not [end for end in endings if end is not _DONE and end is not _DUPLICATE]:
            handled = _DONE in endings
            if handled:
                self._failures.succeeded(case.task)
            if delivery.done():
                _count_end(case, metrics, handled=handled)
            return
        if End.LOST in endings:
            if await delivery.hand_back():
                metrics.handed_back.inc()
            return
        retries = [ending for ending in endings if isinstance(ending, Retry)]
        if retries:
            await self._retry(delivery, metrics, retries)
            return
        failure = next(ending for ending in endings if isinstance(ending, Failure))
        await self.bury(delivery, metrics, failure)

    async def _retry(
        self, delivery: Delivery, metrics: TypeMetrics, retries: Sequence[Retry]
    ) -> None:
        """Try again later; an event that has no room for that is a dead letter."""
        counted = any(retry.counted for retry in retries)
        failed_before = bool(delivery.history.first_failure)
        try:
            settled = await delivery.later(max(retry.delay for retry in retries), counted=counted)
        except Unpublishable as refusal:
            cause = next((retry.error for retry in retries if retry.error is not None), None)
            why = f"no attempt but this one ({cause!r}): {refusal}"
            failure = self._judge.dead(delivery, "oversize", why, cause)
            await self.bury(delivery, metrics, failure)
            return
        if settled:
            (metrics.retried if any(retry.failed for retry in retries) else metrics.busy).inc()
            if counted and not failed_before:
                metrics.began_to_fail.inc()

    async def bury(self, delivery: Delivery, metrics: TypeMetrics, failure: Failure) -> None:
        """Move the delivery to the dead letters."""
        failed_before = bool(delivery.history.first_failure)
        if not await delivery.dead(failure):
            return
        if not failed_before:
            metrics.began_to_fail.inc()
        if self._buries:
            metrics.dead.inc()
            self._count_dead(failure.reason)
        else:
            metrics.given_up.inc()
        _log.error(
            "dead letter" if self._buries else "given up in this replica",
            reason=failure.reason,
            # The message of an error may quote the event.
            why=failure.error or failure.message[:200],
            handler=failure.handler,
            **_identified(delivery),
        )

    async def hand_back(self, delivery: Delivery) -> None:
        """Give the delivery to any replica, at once."""
        if await delivery.hand_back():
            self._metrics_of(delivery).handed_back.inc()

    async def hold_off(self, delivery: Delivery, error: BusUnavailable) -> None:
        """Give the delivery back, but not at once: the bus has just refused."""
        _log.warning(
            "the bus refused; the event is tried again", error=str(error), **_identified(delivery)
        )
        await self._back_after_a_while(delivery)

    async def after_defect(self, delivery: Delivery, error: Exception) -> None:
        """Treat a defect of the chassis as a failed attempt: its event ends in the dead letters."""
        _log.exception("a defect of the chassis; the attempt has failed", **_identified(delivery))
        ending = self._judge.failed(delivery, error)
        try:
            if isinstance(ending, Retry):
                await self._retry(delivery, self._metrics_of(delivery), [ending])
            else:
                await self.bury(delivery, self._metrics_of(delivery), ending)
        except BusUnavailable:
            await self._back_after_a_while(delivery)

    async def _back_after_a_while(self, delivery: Delivery) -> None:
        try:
            settled = await delivery.later(self._probe_seconds, counted=False)
        except BusUnavailable:
            await asyncio.sleep(self._probe_seconds)
            settled = await delivery.hand_back()
        if settled:
            self._metrics_of(delivery).handed_back.inc()

    def _metrics_of(self, delivery: Delivery) -> TypeMetrics:
        envelope = _envelope(delivery)
        known = None if envelope is None else self._known.get(envelope.type)
        return self._unknown if known is None else known.metrics


def _count_end(case: Case, metrics: TypeMetrics, *, handled: bool) -> None:
    if not handled:
        metrics.duplicate.inc()
        return
    metrics.done.inc()
    if case.envelope.time is not None:
        age = datetime.now(UTC) - case.envelope.time
        metrics.age.observe(max(0.0, age.total_seconds()))


def _identified(delivery: Delivery) -> dict[str, object]:
    """The fields of the event in a log line outside of a handler."""
    envelope = _envelope(delivery)
    attempt = delivery.history.attempt
    if envelope is None:
        return {"attempt": attempt}
    return {"event_id": envelope.id, "type": envelope.type, "attempt": attempt}


def _envelope(delivery: Delivery) -> Envelope | None:
    """For settling and logs, where nothing may fail any more."""
    try:
        return delivery.envelope()
    except Exception:  # noqa: BLE001 - met and reported before, when the delivery was taken
        return None

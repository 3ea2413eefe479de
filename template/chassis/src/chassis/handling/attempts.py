"""One handler's attempt at one event: claim, call, publish, complete.

Says how the attempt ended; settles nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

import structlog
from google.protobuf.message import Message

from chassis.bus import BusUnavailable, Delivery, Unpublishable
from chassis.context import Context
from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.contracts.event_types import NotAnEvent, event_type, event_without_version
from chassis.handling.deadlines import Deadlines
from chassis.handling.endings import End, Ending, Interrupted, Retry, class_and_place
from chassis.handling.leases import Work
from chassis.handling.surroundings import Surroundings
from chassis.handling.transactions import Transactions
from chassis.handling.turns import Turns
from chassis.inbox import (
    InboxUnavailable,
    LeaseLost,
    Refusal,
    Refused,
    inbox_key,
    own_key,
    payload_digest,
)
from chassis.retry import NoSuchProcess, NotYet, Reject, RetryPolicy, SetupFault
from chassis.telemetry.logs import handling
from chassis.telemetry.metrics import HandlerMetrics
from chassis.telemetry.traces import Carrier

_log = structlog.get_logger(__name__)

BUSY_SECONDS = 2.0
"""Seconds until a copy comes back that found another copy at work.

Mostly the other one is done by then.
"""


class HandlerTimeout(TimeoutError):
    """The handler did not return in time; the message names the setting."""


class Gathering(Protocol):
    """Events that wait for others of their handler."""

    def close(self) -> None:
        """The service drains: nothing further is waited for."""


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, bound at start to everything that handling needs."""

    call: Callable[[Any, Context[Any]], Awaitable[None]]
    name: str
    event_key: Callable[[Any], object] | None
    metrics: HandlerMetrics
    turns: Turns | None = None
    policy: RetryPolicy | None = None
    deadlines: Deadlines | None = None
    """None, as with `policy`: the handler has the service's own."""
    gathering: Gathering | None = None
    """What `call` waits in, for a handler of batches."""


@dataclass(slots=True, eq=False)  # made for each event, and a frozen one is slow to make
class Case:
    """An event that can be handled, on its way through the handlers of its type."""

    delivery: Delivery
    envelope: Envelope
    event: Message
    task: asyncio.Task[Any]


class Attempts:
    """Makes attempts with the claims of one way in."""

    def __init__(self, around: Surroundings) -> None:
        self._service = around.service
        self._judge = around.judge
        self._inbox = around.inbox
        self._leases = around.leases
        self._transactions = Transactions(around.inbox, around.leases)
        self._publisher = around.publisher
        self._outage = around.outage
        self._failures = around.failures
        self._setup = around.setup
        self._deadlines = Deadlines(around.limits.handler_timeout)
        self._probe_seconds = around.limits.probe
        self._metrics = around.metrics
        self._traces = around.traces
        self._held = around.held

    async def make(self, case: Case, route: Route, key_of_order: Work | None = None) -> Ending:
        """Take `route` to its end for this event.

        `key_of_order` is the claim that keeps other replicas from the event's key. Raises
        InboxUnavailable, BusUnavailable or SetupFault if the end was not reached: nothing is
        settled then, and the claim is given up if possible. CancelledError likewise.
        """
        try:
            key, digest = self._identified(case, route)
        except Exception as error:  # noqa: BLE001 - the key function is the team's own; it is in the dead letter
            return self._judge.dead(
                case.delivery, "bad_key", str(error) or repr(error), error, route.name
            )
        asked_at = monotonic()
        try:
            claim = await self._inbox.claim(key, digest)
        except InboxUnavailable:
            self._metrics.claim_unavailable.inc()
            raise
        if isinstance(claim, Refused):
            return self._refused(case, route, claim)
        self._metrics.claimed.inc()
        work = self._leases.hold(case.task, self._inbox, claim, asked_at, beside=key_of_order)
        context = Context(
            case.envelope,
            handler=route.name,
            attempt=case.delivery.history.attempt,
            idempotency_key=key,
            fence=claim.fence,
            source=self._service,
            transactions=self._transactions,
            work=work,
            held=self._held,
        )
        handling.set(context)
        started = monotonic()
        try:
            return await self._under_claim(case, route, context, work)
        finally:
            handling.set(None)
            route.metrics.duration.observe(monotonic() - started)

    def _identified(self, case: Case, route: Route) -> tuple[str, str]:
        """The key of the claim, and the digest that all deliveries under this key must have."""
        envelope = case.envelope
        if route.event_key is None:
            event_key = f"{envelope.source}\0{envelope.id}"
            return inbox_key(self._service, route.name, event_key), payload_digest(
                case.delivery.body
            )
        own: object = route.event_key(case.event)
        if not isinstance(own, str) or not own:
            raise ValueError(
                f"the key function of handler {route.name} gave {own!r}, "
                "expected a non-empty string"
            )
        # The event is the upcast one, so its key is the same for every version that was sent.
        event = event_without_version(event_type(case.event))
        return own_key(self._service, route.name, event, own)

    def _refused(self, case: Case, route: Route, claim: Refused) -> Ending:
        if claim.refusal is Refusal.DUPLICATE:
            self._metrics.claim_duplicate.inc()
            return End.DUPLICATE
        if claim.refusal is Refusal.MISMATCH:
            self._metrics.claim_mismatch.inc()
            why = "the same event id came before with another payload"
            return self._judge.dead(case.delivery, "payload_mismatch", why, handler=route.name)
        self._metrics.claim_busy.inc()
        return Retry(min(claim.retry_after, BUSY_SECONDS), counted=False, failed=False)

    async def _under_claim(self, case: Case, route: Route, context: Context, work: Work) -> Ending:
        """Every way out has completed the claim, given it up, or lost it."""
        envelope = context.envelope
        try:
            if self._traces.enabled:
                with self._traces.handle(
                    envelope.type, route.name, envelope.id, envelope.trace
                ) as carrier:
                    context.traceparent = carrier.get("traceparent")
                    left = await self._run(case, route, context, work, carrier)
            else:
                left = await self._run(case, route, context, work, envelope.trace)
            await self._complete(work, left)
        except LeaseLost:
            await self._roll_back(work)
            return self._lost()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - all that a handler raises is judged
            return await self._failed(case, route, work, error)
        return End.DONE

    async def _run(
        self, case: Case, route: Route, context: Context, work: Work, carrier: Carrier
    ) -> Sequence[EncodedEvent]:
        """Call the handler and publish the events that it collected.

        Returns the events that are to be stored with the completion instead.
        """
        deadlines = route.deadlines or self._deadlines
        deadline = deadlines.begin(case.task)
        try:
            await route.call(case.event, context)
        finally:
            self._leases.returned(work)
            deadlines.lift(deadline)
            if deadline.expired:  # also when the handler swallowed the cancellation
                raise HandlerTimeout(
                    f"the handler took longer than {deadlines.seconds:g} s ({deadlines.named})"
                )
        if work.lost:
            raise LeaseLost(work.lease.key)
        outgoing = context.outgoing
        if self._transactions.supported:
            self._publisher.check(outgoing)
            traced = (carrier.get("traceparent"), carrier.get("tracestate"))
            return [
                EncodedEvent(event.envelope.with_trace(*traced), event.body) for event in outgoing
            ]
        if outgoing:
            await self._publisher.publish_all(outgoing, carrier)
        if context.after_publishing is not None:
            await context.after_publishing()
        return ()

    async def _complete(self, work: Work, left: Sequence[EncodedEvent]) -> None:
        """Mark as done, and store the events `left` to publish; wait while the store is away.

        A transaction of the handler's own is lost with its connection: there is nothing to try
        again. Raises LeaseLost if the event came with another payload meanwhile.
        """
        while True:
            try:
                try:
                    lease = await self._leases.let_go(work)
                    await self._transactions.complete(work, lease, left)
                except LeaseLost:
                    self._leases.lose(work)
                    if work.transaction is not None:
                        raise
                else:
                    return
                if (wait := await self._claim_again(work)) is None:
                    return
            except InboxUnavailable as error:
                self._outage.report(error)
                if work.transaction is not None:
                    raise
                wait = self._probe_seconds
            await asyncio.sleep(wait)

    async def _claim_again(self, work: Work) -> float | None:
        """Seconds until the next try to complete; None if the event is done.

        The effect has happened, so a lease that is over is claimed again, to complete it. That
        claim can be refused because of our own claim, if its answer was lost.
        """
        refused = await self._leases.claim_again(work)
        if refused is None:
            return 0.0
        if (
            refused.refusal is Refusal.DUPLICATE
        ):  # marked by another replica, or here: the answer was lost
            return None
        if refused.refusal is Refusal.MISMATCH:
            raise LeaseLost(work.lease.key)
        return min(refused.retry_after, BUSY_SECONDS)

    async def _failed(self, case: Case, route: Route, work: Work, error: BaseException) -> Ending:
        """Tell a failure of the handler from one of the world around it."""
        await self._give_up(work)
        cut_off = (
            work.transaction is not None
            and work.transaction.broken
            and not isinstance(error, HandlerTimeout)
        )
        if work.lost:
            return self._lost()
        if case.task.cancelling():
            raise asyncio.CancelledError from error
        if isinstance(error, Interrupted):
            return Retry(BUSY_SECONDS, counted=False, failed=False)
        if isinstance(error, SetupFault):
            self._setup.report(error)
            raise error
        if isinstance(error, BusUnavailable | InboxUnavailable):
            raise error
        if cut_off:
            raise InboxUnavailable(
                f"the store failed in a handler's transaction: {class_and_place(error)}"
            ) from error
        if isinstance(error, NotYet):
            return Retry(error.seconds, counted=False, failed=False)
        route.metrics.failures.inc()
        if isinstance(error, Unpublishable | NotAnEvent):
            return self._judge.dead(case.delivery, "unpublishable", str(error), error, route.name)
        forgiven = not isinstance(error, Reject | NoSuchProcess) and self._failures.failed(
            case.task,
            (case.envelope.source, case.envelope.id),
            case.delivery.history.attempt,
            error,
        )
        ending = self._judge.failed(
            case.delivery, error, route.name, policy=route.policy, forgiven=forgiven
        )
        if isinstance(ending, Retry):
            _log.warning(
                "handling failed, trying again",
                error=class_and_place(error),
                delay=round(ending.delay, 3),
            )
        return ending

    def _lost(self) -> Ending:
        _log.warning("the lease was lost; another replica may be at work on the event")
        return End.LOST

    async def _give_up(self, work: Work) -> None:
        """Undo the handler's writes and release the claim.

        A claim that cannot be released now ends with its lease.
        """
        await self._roll_back(work)
        try:
            await self._inbox.release(await self._leases.let_go(work))
        except LeaseLost:
            _log.debug("the lease was over already")
        except InboxUnavailable as error:
            self._outage.report(error)
            _log.debug("the claim could not be released; it ends with its lease", error=str(error))

    async def _roll_back(self, work: Work) -> None:
        if work.transaction is not None:
            await work.transaction.roll_back()

"""The one way through: delivery, claim, handler, publish, complete, acknowledge.

Knows the ports (bus, inbox), never a broker or a store. The bus runs `Consumer.on_delivery` in a task of its
own for each delivery; nothing here makes another task, a timer or a lookup for each event.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from google.protobuf.message import DecodeError, Message

from chassis.bus import Bus, BusUnavailable, Delivery, Failure
from chassis.contracts.envelope import Envelope, EnvelopeError
from chassis.contracts.event_types import unknown_type_reason
from chassis.contracts.upcasters import UpcastFailed
from chassis.handling.attempts import Attempts, Case, Route
from chassis.handling.breaker import Breaker, FailurePause
from chassis.handling.endings import End, Ending, Identity, Judge, Retry
from chassis.handling.in_turn import InTurn
from chassis.handling.leases import LeaseKeeper
from chassis.handling.outage import StoreOutage
from chassis.handling.pauses import Pauses
from chassis.handling.turns import HOLD_SECONDS, NoTurn, Turns
from chassis.inbox import Inbox, InboxUnavailable
from chassis.inbox.unclaimed import Unclaimed
from chassis.publishing.publisher import Publisher
from chassis.retry import RetryPolicy
from chassis.telemetry.metrics import Metrics, TypeMetrics
from chassis.telemetry.traces import Traces

__all__ = ["Consumer", "Entry", "Identity", "Limits", "Route"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event type that the service takes, and its handlers, each with a claim of its own."""

    parse: Callable[[bytes], Message]
    routes: tuple[Route, ...]
    metrics: TypeMetrics


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes. `probe`: between two tries while the store or the broker is away; `cancel`: until a cancelled
    handler is left behind; `put_off`: until what came during a pause may come again; `hold`: that an event with an
    order is kept in hand, its retries included."""

    handler_timeout: float
    lease: float
    max_body: int
    probe: float = 0.5
    cancel: float = 5.0
    put_off: float = 1.0
    hold: float = HOLD_SECONDS


@dataclass(frozen=True, slots=True)
class _Intake:
    """One way in: of what is shared with the other replicas, or of what every replica gets.

    `waiting` are the types with a handler that waits for its turn; `buries` says whether there are dead letters.
    """

    entries: Mapping[str, Entry]
    attempts: Attempts
    in_turn: InTurn
    waiting: frozenset[str]
    buries: bool

    @property
    def turns(self) -> set[Turns]:
        """Of all handlers that have any."""
        routes = (route for entry in self.entries.values() for route in entry.routes)
        return {route.turns for route in routes if route.turns is not None}


class Consumer:
    """Takes each delivery to one of five outcomes: done, later, dead, drop (a duplicate), hand back.

    `entries` are of the events shared with the other replicas; those `for_each` replica are claimed nowhere.
    """

    def __init__(
        self,
        identity: Identity,
        entries: Mapping[str, Entry],
        *,
        bus: Bus,
        inbox: Inbox,
        publisher: Publisher,
        policy: RetryPolicy,
        breaker: Breaker,
        limits: Limits,
        metrics: Metrics,
        traces: Traces,
        for_each: Mapping[str, Entry] | None = None,
    ) -> None:
        self._bus = bus
        self._limits = limits
        self._metrics = metrics
        self._unknown = metrics.for_type("unknown")
        self._judge = Judge(identity, policy)
        self._pauses = Pauses(bus, metrics.paused)
        self._leases = LeaseKeeper(
            inbox, limits.lease, metrics.leases_lost.inc, self._on_unavailable
        )
        self._outage = StoreOutage(
            inbox,
            self._pauses,
            self._leases.extend_due,
            probe_seconds=limits.probe,
            # Half of a term is left of every lease at least, and it takes time to see that the store is away.
            short_seconds=limits.lease / 4,
        )
        self._failures = FailurePause(breaker, self._pauses)

        def intake(
            entries: Mapping[str, Entry],
            inbox: Inbox,
            leases: LeaseKeeper,
            metrics: Metrics,
            *,
            buries: bool,
        ) -> _Intake:
            attempts = Attempts(
                identity.service,
                judge=self._judge,
                inbox=inbox,
                leases=leases,
                publisher=publisher,
                outage=self._outage,
                failures=self._failures,
                handler_timeout=limits.handler_timeout,
                probe_seconds=limits.probe,
                metrics=metrics,
                traces=traces,
            )
            in_turn = InTurn(
                identity.service,
                attempts=attempts,
                judge=self._judge,
                inbox=inbox,
                leases=leases,
                outage=self._outage,
                failures=self._failures,
                probe_seconds=limits.probe,
                put_off_seconds=limits.put_off,
                hold_seconds=limits.hold,
            )
            waiting = frozenset(
                type_ for type_, entry in entries.items() if any(r.turns for r in entry.routes)
            )
            return _Intake(entries, attempts, in_turn, waiting, buries)

        self._shared = intake(entries, inbox, self._leases, metrics, buries=True)
        unclaimed = Unclaimed()
        # Never runs: nobody takes these claims.
        keeper = LeaseKeeper(unclaimed, limits.lease, metrics.leases_lost.inc, self._on_unavailable)
        self._for_each = intake(
            for_each or {}, unclaimed, keeper, metrics.without_claims(), buries=False
        )
        self._in_flight: set[asyncio.Task[Any]] = set()
        self._draining = False
        self._keeping: asyncio.Task[None] | None = None
        metrics.watch_in_flight(lambda: len(self._in_flight))

    @property
    def store_reachable(self) -> bool:
        """True from `start` on, but not while the store does not answer."""
        return self._keeping is not None and not self._outage.active

    @property
    def consuming(self) -> bool:
        """True while the bus delivers, also while the consumer wants nothing because most events fail.

        That is the state of a dependency, not of this replica: it must not keep a mended release from being rolled out.
        """
        return self._bus.connected if self._failures.active else self._bus.consuming

    def start(self) -> None:
        """Begin to keep leases alive. Call once the inbox is open, before the bus starts."""
        self._keeping = asyncio.create_task(self._leases.run())

    async def drain(self, deadline: float) -> int:
        """Stop taking first; let what is in flight finish, after `deadline` seconds cancel it and hand it back.

        Returns how many handlings were cancelled.
        """
        self._draining = True
        self._outage.stop()
        self._failures.stop()
        ends_at = asyncio.get_running_loop().time() + deadline
        await self._pauses.close()
        for turns in self._shared.turns | self._for_each.turns:
            turns.close()
        late: set[asyncio.Task[Any]] = set()
        if self._in_flight:
            left = ends_at - asyncio.get_running_loop().time()
            _, late = await asyncio.wait(self._in_flight, timeout=max(0.0, left))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=self._limits.cancel)
        if self._keeping is not None:
            self._keeping.cancel()
        self._metrics.abandoned.inc(len(late))
        return len(late)

    async def on_delivery(self, delivery: Delivery) -> None:
        """Take one delivery of the shared subscription to its outcome."""
        await self._receive(delivery, self._shared)

    async def on_delivery_for_each(self, delivery: Delivery) -> None:
        """Take one delivery of the subscription of this replica to its outcome."""
        await self._receive(delivery, self._for_each)

    def _on_unavailable(self, error: InboxUnavailable) -> None:
        self._outage.report(error)

    async def _receive(self, delivery: Delivery, intake: _Intake) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        if self._draining:
            await self._hand_back(delivery, intake)
            return
        self._in_flight.add(task)
        try:
            await self._take(task, delivery, intake)
        except asyncio.CancelledError:
            await self._hand_back(delivery, intake)
            raise
        except InboxUnavailable as error:
            self._outage.report(error)
            await self._hand_back(delivery, intake)
        except BusUnavailable as error:
            _log.warning(
                "the bus refused; the event is tried again",
                error=str(error),
                **_identified(delivery),
            )
            await self._hold_off(delivery, intake)
        except Exception as error:  # noqa: BLE001 - nothing may leave the event unsettled; it is logged with its stack
            _log.exception(
                "a defect of the chassis; the attempt has failed", **_identified(delivery)
            )
            await self._settle_after_defect(delivery, error, intake)
        finally:
            self._failures.ended(task)
            self._in_flight.discard(task)

    async def _take(self, task: asyncio.Task[Any], delivery: Delivery, intake: _Intake) -> None:
        """Refuse what can never be handled before anything is claimed; run the handlers of the rest."""
        body = delivery.body
        try:
            envelope = delivery.envelope()
        except EnvelopeError as error:
            await self._bury(
                delivery,
                self._unknown,
                self._judge.dead(delivery, "bad_envelope", str(error)),
                intake,
            )
            return
        entry = intake.entries.get(envelope.type)
        if entry is None:
            reason = unknown_type_reason(envelope.type, frozenset(intake.entries))
            failure = self._judge.dead(delivery, reason, f"no handler takes {envelope.type}")
            await self._bury(delivery, self._unknown, failure, intake)
            return
        if len(body) > self._limits.max_body:
            why = f"the body has {len(body)} bytes, at most {self._limits.max_body} allowed"
            await self._bury(
                delivery, entry.metrics, self._judge.dead(delivery, "oversize", why), intake
            )
            return
        try:
            event = entry.parse(body)
        except DecodeError as error:
            why = f"not a {envelope.type}: {error}"
            await self._bury(
                delivery, entry.metrics, self._judge.dead(delivery, "undecodable", why), intake
            )
            return
        except UpcastFailed as error:
            failure = self._judge.dead(delivery, "upcast_failed", str(error), error)
            await self._bury(delivery, entry.metrics, failure, intake)
            return
        if not self._failures.admit(task):
            await delivery.later(self._limits.put_off, counted=False)
            entry.metrics.handed_back.inc()
            return
        case = Case(delivery, envelope, event, task)
        if envelope.type in intake.waiting:
            await self._take_in_turn(case, entry, intake)
        else:
            endings: list[Ending] = []
            for route in entry.routes:
                endings.append(await intake.attempts.make(case, route))
                if endings[-1] is End.LOST:
                    break
            await self._settle(case, entry.metrics, endings, intake)

    async def _take_in_turn(self, case: Case, entry: Entry, intake: _Intake) -> None:
        """Of those who wait for the same key nobody may move up before this one is settled."""
        visit = intake.in_turn.enter(case, entry.routes)
        endings: list[Ending] = []
        try:
            for route in entry.routes:
                endings.append(await intake.in_turn.make(case, route, visit))
                if endings[-1] is End.LOST:
                    break
            await self._settle(case, entry.metrics, endings, intake)
        except NoTurn:
            await self._hand_back(case.delivery, intake)
        finally:
            await intake.in_turn.leave(visit)

    async def _settle(
        self, case: Case, metrics: TypeMetrics, endings: Sequence[Ending], intake: _Intake
    ) -> None:
        """One outcome for all handlers: none is condemned, or acknowledged, while another is to be tried again."""
        delivery = case.delivery
        if all(ending is End.DONE or ending is End.DUPLICATE for ending in endings):
            delivery.done()
            if End.DONE not in endings:
                metrics.duplicate.inc()
                return
            self._failures.succeeded(case.task)
            metrics.done.inc()
            if case.envelope.time is not None:
                metrics.age.observe(
                    max(0.0, (datetime.now(UTC) - case.envelope.time).total_seconds())
                )
            return
        if End.LOST in endings:
            await delivery.hand_back()
            metrics.handed_back.inc()
            return
        retries = [ending for ending in endings if isinstance(ending, Retry)]
        if retries:
            counted = any(retry.counted for retry in retries)
            await delivery.later(max(retry.delay for retry in retries), counted=counted)
            (metrics.retried if any(retry.failed for retry in retries) else metrics.busy).inc()
            return
        await self._bury(
            delivery,
            metrics,
            next(ending for ending in endings if isinstance(ending, Failure)),
            intake,
        )

    async def _bury(
        self, delivery: Delivery, metrics: TypeMetrics, failure: Failure, intake: _Intake
    ) -> None:
        await delivery.dead(failure)
        if intake.buries:
            metrics.dead.inc()
            self._metrics.dead(failure.reason)
        else:
            metrics.given_up.inc()
        _log.error(
            "dead letter" if intake.buries else "given up in this replica",
            reason=failure.reason,
            why=failure.message[:200],
            handler=failure.handler,
            **_identified(delivery),
        )

    async def _hand_back(self, delivery: Delivery, intake: _Intake) -> None:
        await delivery.hand_back()
        self._metrics_of(delivery, intake).handed_back.inc()

    async def _hold_off(self, delivery: Delivery, intake: _Intake) -> None:
        """Give the delivery back, but not at once: the bus has just failed."""
        try:
            await delivery.later(self._limits.probe, counted=False)
        except BusUnavailable:
            await asyncio.sleep(self._limits.probe)
            await delivery.hand_back()
        self._metrics_of(delivery, intake).handed_back.inc()

    async def _settle_after_defect(
        self, delivery: Delivery, error: Exception, intake: _Intake
    ) -> None:
        """As if a handler had failed, so that an event which the chassis cannot bear ends in the dead letters."""
        ending = self._judge.failed(delivery, error)
        try:
            if isinstance(ending, Retry):
                await delivery.later(ending.delay, counted=True)
                self._metrics_of(delivery, intake).retried.inc()
            else:
                await self._bury(delivery, self._metrics_of(delivery, intake), ending, intake)
        except BusUnavailable:
            await self._hold_off(delivery, intake)

    def _metrics_of(self, delivery: Delivery, intake: _Intake) -> TypeMetrics:
        envelope = _envelope(delivery)
        entry = None if envelope is None else intake.entries.get(envelope.type)
        return self._unknown if entry is None else entry.metrics


def _identified(delivery: Delivery) -> dict[str, object]:
    """What a log line outside of a handler says of the event."""
    envelope = _envelope(delivery)
    if envelope is None:
        return {"attempt": delivery.history.attempt}
    return {"event_id": envelope.id, "type": envelope.type, "attempt": delivery.history.attempt}


def _envelope(delivery: Delivery) -> Envelope | None:
    """For settling and logs, where nothing may fail any more."""
    try:
        return delivery.envelope()
    except Exception:  # noqa: BLE001 - met and reported before, when the delivery was taken
        return None

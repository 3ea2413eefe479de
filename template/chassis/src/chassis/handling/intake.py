"""A way in: from a delivery, through the handlers of its type, to its outcome.

A service has two: one for the events that its replicas share, one for the events that every replica
gets. Knows neither a broker nor a store; makes no task, no timer and no lookup of its own for each
event.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message

from chassis.bus import Delivery
from chassis.contracts.envelope import EnvelopeError
from chassis.contracts.event_types import unknown_type_reason
from chassis.contracts.json_body import BadJson
from chassis.contracts.upcasters import UpcastFailed
from chassis.handling.appointments import NoTurn
from chassis.handling.attempts import Attempts, Case, Gathering, Route
from chassis.handling.endings import End, Ending
from chassis.handling.in_turn import InTurn
from chassis.handling.settling import Settling
from chassis.handling.surroundings import Surroundings
from chassis.handling.turns import Turns
from chassis.reasons import Reason
from chassis.telemetry.metrics import TypeMetrics


@dataclass(frozen=True, slots=True)
class Entry:
    """An event type that the service takes, and its handlers, each with a claim of its own."""

    parse: Callable[[bytes], Message]
    routes: tuple[Route, ...]
    metrics: TypeMetrics
    parse_json: Callable[[bytes], Message]


class Intake:
    """Takes deliveries of the types in `entries`. `buries`: see Settling."""

    def __init__(self, entries: Mapping[str, Entry], around: Surroundings, *, buries: bool) -> None:
        self._entries = entries
        self._unknown = around.metrics.for_type("unknown", "shared" if buries else "every_replica")
        self._attempts = Attempts(around)
        self._in_turn = InTurn(self._attempts, around)
        self.settling = Settling(entries, self._unknown, around, buries=buries)
        self._judge = around.judge
        self._failures = around.failures
        self._max_body = around.limits.max_body
        self._put_off_seconds = around.limits.put_off
        self._waiting = frozenset(
            type_ for type_, entry in entries.items() if any(route.turns for route in entry.routes)
        )

    @property
    def turns(self) -> set[Turns]:
        """The turns of all handlers that have any."""
        routes = (route for entry in self._entries.values() for route in entry.routes)
        return {route.turns for route in routes if route.turns is not None}

    @property
    def gatherings(self) -> set[Gathering]:
        """Where events wait to be handled together."""
        routes = (route for entry in self._entries.values() for route in entry.routes)
        return {route.gathering for route in routes if route.gathering is not None}

    async def take(self, task: asyncio.Task[Any], delivery: Delivery) -> None:
        """Run the handlers of the event, and settle the delivery.

        Raises BusUnavailable or InboxUnavailable: nothing is settled then.
        """
        try:
            case = self._read(task, delivery)
        except _NeverHandled as refusal:
            failure = self._judge.dead(delivery, refusal.reason, refusal.why, refusal.error)
            await self.settling.bury(delivery, refusal.metrics, failure)
            return
        entry = self._entries[case.envelope.type]
        if not self._failures.admit(task):
            if await delivery.later(self._put_off_seconds, counted=False):
                entry.metrics.handed_back.inc()
            return
        if case.envelope.type in self._waiting:
            await self._handle_in_turn(case, entry)
            return
        endings: list[Ending] = []
        for route in entry.routes:
            endings.append(await self._attempts.make(case, route))
            if endings[-1] is End.LOST:
                break
        await self.settling.settle(case, entry.metrics, endings)

    async def _handle_in_turn(self, case: Case, entry: Entry) -> None:
        """Events with the same key wait until this one is settled."""
        visit = self._in_turn.enter(case, entry.routes)
        endings: list[Ending] = []
        try:
            for route in entry.routes:
                endings.append(await self._in_turn.make(case, route, visit))
                if endings[-1] is End.LOST:
                    break
            await self.settling.settle(case, entry.metrics, endings)
        except NoTurn:
            await self.settling.hand_back(case.delivery)
        finally:
            await self._in_turn.leave(visit)

    def _read(self, task: asyncio.Task[Any], delivery: Delivery) -> Case:
        """The event of `delivery`. Raises _NeverHandled before anything is claimed."""
        try:
            envelope = delivery.envelope()
        except EnvelopeError as error:
            raise _NeverHandled(self._unknown, "bad_envelope", str(error)) from None
        entry = self._entries.get(envelope.type)
        if entry is None:
            reason = unknown_type_reason(envelope.type, frozenset(self._entries))
            raise _NeverHandled(self._unknown, reason, f"no handler takes {envelope.type}")
        body = delivery.body
        if len(body) > self._max_body:
            why = f"the body has {len(body)} bytes, at most {self._max_body} allowed"
            raise _NeverHandled(entry.metrics, "oversize", why)
        try:
            event = entry.parse_json(body) if envelope.json else entry.parse(body)
        except DecodeError as error:
            why = f"not a {envelope.type}: {error}"
            raise _NeverHandled(entry.metrics, "undecodable", why) from None
        except BadJson as error:  # its message may quote the event, so no line of the log has it
            why = f"not a {envelope.type} in JSON: {error}"
            raise _NeverHandled(entry.metrics, "undecodable", why, error) from None
        except UpcastFailed as error:
            raise _NeverHandled(entry.metrics, "upcast_failed", str(error), error) from None
        return Case(delivery, envelope, event, task)


class _NeverHandled(Exception):
    """No attempt at this delivery can work. `error` is in the dead letter with its stack."""

    def __init__(
        self, metrics: TypeMetrics, reason: Reason, why: str, error: Exception | None = None
    ) -> None:
        super().__init__(why)
        self.metrics = metrics
        self.reason = reason
        self.why = why
        self.error = error

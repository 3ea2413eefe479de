"""The routes of a service: each event type that it takes, bound to its handlers and their policies.

Starts nothing. Knows no broker and no store.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from chassis.bus import DeliveryMode
from chassis.contracts.event_types import event_type
from chassis.handling.attempts import Route
from chassis.handling.intake import Entry
from chassis.handling.pace import Pace
from chassis.handling.turns import Slots, Turns
from chassis.registration import Registered
from chassis.replica.policies import Own, holding, named, own_policies
from chassis.service import Service
from chassis.settings import Settings
from chassis.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from chassis.batches.collector import Collector
    from chassis.processes.runner import Runner

WAKE_UPS = "wake-ups"
"""What the inbox and the metrics call the handler of wake-ups: no function has this name."""
_SERVICES_OWN = Own(retry=None, deadlines=None)


class Routes:
    """Binds the handlers of `service` once, steps of processes to `steps`.

    Unless `paced`, rates do not hold, and batches wait until they are flushed.

    Raises SettingsError if a handler's policy and the settings do not fit.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        metrics: Metrics,
        steps: "Runner | None" = None,
        *,
        now: Callable[[], datetime],
        paced: bool,
    ) -> None:
        self._registry = service.registry
        self._settings = settings
        self._metrics = metrics
        self._turns = _turns(service, settings.prefetch, paced=paced)
        self._own = own_policies(service, settings)
        self._paced = paced
        self._steps = steps
        self._service = service.name
        self._now = now
        self._collectors = {
            handler: self._collector(handler)
            for handler in service.registry.handlers
            if handler.options.batch is not None
        }

    def entries(self, mode: DeliveryMode) -> dict[str, Entry]:
        """How each event type is handled that a handler takes with this `delivery`."""
        entries = {}
        for reading, handlers in self._registry.readings(mode):
            type_ = event_type(reading.sent)
            routes = tuple(self._route(type_, handler) for handler in handlers)
            metrics = self._metrics.for_type(type_, mode)
            entries[type_] = Entry(reading.parse, routes, metrics, reading.parse_json)
        if mode == "shared":
            entries |= {type_: self._wakeups(type_) for type_ in self._registry.wakeups}
            entries |= {type_: self._ticks(type_) for type_ in self._registry.schedules}
            entries |= {type_: self._delayed(type_) for type_ in self._registry.delayed}
        return entries

    def _wakeups(self, type_: str) -> Entry:
        """How the wake-ups of processes are handled."""
        from chassis.processes import wakeups  # noqa: PLC0415 - only processes need it

        assert self._steps is not None  # noqa: S101 - a service with processes has their store
        call = partial(self._steps.wake, self._registry.processes)
        route = Route(call, WAKE_UPS, None, self._metrics.for_handler(type_, WAKE_UPS))
        metrics = self._metrics.for_type(type_, "shared")
        return Entry(wakeups.parse, (route,), metrics, wakeups.parse_json)

    def _ticks(self, type_: str) -> Entry:
        """How the ticks of a schedule are handled."""
        from chassis.schedule import ticks  # noqa: PLC0415 - only schedules need it

        schedule = self._registry.schedules[type_]
        metrics = self._metrics.for_handler(type_, schedule.name)
        route = Route(schedule.handle, schedule.name, None, metrics)
        return Entry(
            ticks.parse, (route,), self._metrics.for_type(type_, "shared"), ticks.parse_json
        )

    def _delayed(self, type_: str) -> Entry:
        """How the events that wait are published."""
        from chassis.contracts import delayed  # noqa: PLC0415 - only delayed events need it
        from chassis.publishing.delayed import DELAYED, Delayed  # noqa: PLC0415 - likewise

        route = Route(
            Delayed(self._service, self._now).publish,
            DELAYED,
            delayed.carried_id,
            self._metrics.for_handler(type_, DELAYED),
        )
        metrics = self._metrics.for_type(type_, "shared")
        return Entry(delayed.parse, (route,), metrics, delayed.parse_json)

    def _route(self, type_: str, handler: Registered) -> Route:
        limits = holding(handler, self._settings).limits()
        self._metrics.show_limits(type_, handler.name, limits)
        own = self._own.get(handler, _SERVICES_OWN)
        collector = self._collectors.get(handler)
        return Route(
            self._call(handler) if collector is None else collector.join,
            handler.name,
            handler.options.key,
            self._metrics.for_handler(type_, handler.name),
            self._turns.get(handler),
            policy=own.retry,
            deadlines=own.deadlines,
            gathering=collector,
        )

    def _call(self, handler: Registered) -> Callable[..., Awaitable[None]]:
        if handler.step is None:
            return handler.call
        assert self._steps is not None  # noqa: S101 - a service with processes has their store
        return partial(self._steps.take, handler.step)

    def _collector(self, handler: Registered) -> "Collector":
        from chassis.batches.collector import Collector  # noqa: PLC0415 - only a service with batches needs it

        held = holding(handler, self._settings)
        assert held.batch is not None  # noqa: S101 - asked by the caller
        return Collector(
            handler.call,
            handler.name,
            size=held.batch.size,
            wait=held.batch.seconds if self._paced else None,
            timeout=held.timeout,
            named=named(held),
            observe=self._metrics.for_batches(handler.name),
        )


def _turns(service: Service, prefetch: int, *, paced: bool) -> Mapping[Registered, Turns]:
    """The turns of each handler that asks for any.

    Turns are the same for all types that upcasters lead to the handler. Handlers with
    `concurrency=` or `rate=` share half of the prefetch for waiting. A service with a single
    handler needs no such bound.
    """
    handlers = service.registry.handlers
    rates = {handler: handler.policy.rate if paced else None for handler in handlers}
    limited = sum(
        handler.options.concurrency is not None or rates[handler] is not None
        for handler in handlers
    )
    room = max(1, prefetch // (2 * limited)) if limited and len(handlers) > 1 else None
    turns = {}
    for handler in handlers:
        limit, rate, order = handler.options.concurrency, rates[handler], handler.options.ordered_by
        if limit is not None or rate is not None or order is not None:
            slots = None if limit is None else Slots(limit, room)
            pace = None if rate is None else Pace(rate, room)
            turns[handler] = Turns(slots, order, pace=pace)
    return turns

"""The registry of a service: handlers with their options, and upcasters.

Knows no bus and no inbox: `replica` makes a pipeline of it.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from google.protobuf.message import Message

from chassis.bus import DeliveryMode
from chassis.contracts.event_types import event_type
from chassis.contracts.upcasters import Reading, RegistrationError, Upcasters
from chassis.policy import Batching, Policy, Wanted

if TYPE_CHECKING:
    from chassis.processes.definition import Process, Step
    from chassis.schedule.leader import Leader
    from chassis.schedule.ticks import Schedule

__all__ = ["Options", "Registered", "RegistrationError", "Registry"]


@dataclass(frozen=True, slots=True)
class Options:
    """See Service.on."""

    key: Callable[[Any], str] | None
    concurrency: int | None
    ordered_by: Callable[[Any], str | None] | None
    delivery: DeliveryMode
    transaction: bool
    wanted: Wanted
    batch: Batching | None = None

    def check(self, whose: str) -> None:
        """Raises RegistrationError for an option that means nothing."""
        given: object = self.concurrency
        if given is not None and (
            not isinstance(given, int) or isinstance(given, bool) or given < 1
        ):
            raise RegistrationError(
                f"{whose}: concurrency={given!r} must be a whole number of at least 1"
            )
        functions: dict[str, object] = {"key": self.key, "ordered_by": self.ordered_by}
        for name, function in functions.items():
            if function is not None and (
                not callable(function) or inspect.iscoroutinefunction(function)
            ):
                raise RegistrationError(f"{whose}: {name}= must be a plain function of the event")
        if self.delivery not in get_args(DeliveryMode):
            allowed = " or ".join(repr(mode) for mode in get_args(DeliveryMode))
            raise RegistrationError(f"{whose}: delivery={self.delivery!r} must be {allowed}")
        if self.delivery == "every_replica" and self.key is not None:
            raise RegistrationError(
                f"{whose}: key= says what is handled once, delivery='every_replica' handles it in "
                "each replica: leave one out"
            )
        if self.batch is not None:
            try:
                self.batch.check()
            except ValueError as mistake:
                raise RegistrationError(f"{whose}: {mistake}") from None
        if self.delivery == "every_replica" and self.transaction:
            raise RegistrationError(
                f"{whose}: transaction=True needs a claim, and delivery='every_replica' has none: "
                "leave one out"
            )


_OF_STEPS = Options(None, None, None, "shared", transaction=False, wanted=Wanted())


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """A handler as it was registered. `step` is what it is to a process."""

    name: str
    call: Callable[..., Awaitable[None]]
    options: Options
    policy: Policy
    step: "Step | None" = None


class Registry:
    """The handlers of each message class, and the upcasters between the classes."""

    def __init__(self) -> None:
        self.upcasters = Upcasters()
        self.processes: dict[str, Process[Any]] = {}
        self.leaders: dict[str, Leader] = {}
        self.schedules: dict[str, Schedule] = {}
        """By the event type of their ticks."""
        self.wakeups: frozenset[str] = frozenset()
        """The event types of wake-ups: one, if a process can be woken."""
        self.delayed: frozenset[str] = frozenset()
        """The event types that carry delayed events: one, if the service has any."""
        self._handlers: dict[type[Message], list[Registered]] = {}

    def add(
        self,
        message: type[Message],
        handler: Callable[..., Awaitable[None]],
        options: Options,
    ) -> None:
        """Register `handler` for `message`. Raises RegistrationError."""
        name = getattr(handler, "__name__", repr(handler))
        if not inspect.iscoroutinefunction(handler):
            raise RegistrationError(f"handler {name} must be an `async def` function")
        given: object = message
        if not (isinstance(given, type) and issubclass(given, Message)):
            raise RegistrationError(
                f"handler {name}: {message!r} is no message of a contract; give a class that "
                "`make contracts` generated"
            )
        whose = f"handler {name} of {event_type(message)}"
        batches = options.batch is not None
        try:
            inspect.signature(handler).bind(*([None] if batches else [None, None]))
        except TypeError:
            takes = "one argument, the Batch" if batches else "two arguments, event and Context"
            raise RegistrationError(f"{whose} must take {takes}") from None
        options.check(whose)
        try:
            policy = options.wanted.read()
        except ValueError as mistake:
            raise RegistrationError(f"{whose}: {mistake}") from None
        self._put(message, Registered(name, handler, options, policy))

    def add_leader(self, leader: "Leader") -> None:
        """Register `leader`. Raises RegistrationError."""
        given: object = leader.name
        if not (isinstance(given, str) and given):
            raise RegistrationError(f"leader {given!r}: give it a name, such as 'compactor'")
        if not inspect.iscoroutinefunction(leader.body):
            raise RegistrationError(f"leader {leader.name} must be an `async def` function")
        try:
            inspect.signature(leader.body).bind(None)
        except TypeError:
            raise RegistrationError(f"leader {leader.name} must take one argument, Lead") from None
        if leader.name in self.leaders:
            raise RegistrationError(f"there is a leader called {leader.name} already")
        self.leaders[leader.name] = leader

    def add_schedule(self, type_: str, schedule: "Schedule") -> None:
        """Register `schedule`, whose ticks are of `type_`. Raises RegistrationError."""
        if not inspect.iscoroutinefunction(schedule.handler):
            raise RegistrationError(f"handler {schedule.name} must be an `async def` function")
        try:
            inspect.signature(schedule.handler).bind(None, None)
        except TypeError:
            raise RegistrationError(
                f"handler {schedule.name} must take two arguments, Tick and Context"
            ) from None
        if type_ in self.schedules:
            raise RegistrationError(f"a schedule has a handler called {schedule.name} already")
        self.schedules[type_] = schedule

    def add_process(self, process: "Process[Any]") -> None:
        """Register `process`; its steps follow. Raises RegistrationError."""
        if process.name in self.processes:
            raise RegistrationError(
                f"there is a process {process.name} already: give this one a name="
            )
        self.processes[process.name] = process

    def add_step(self, message: type[Message], step: "Step") -> None:
        """Register a step of a process as a handler of `message`. Raises RegistrationError."""
        name = step.process.name
        self._put(message, Registered(name, step.unbound, _OF_STEPS, Policy(), step))

    def add_wakeups(self, type_: str) -> None:
        """A process of this service can be woken by events of `type_`."""
        self.wakeups |= {type_}

    def _put(self, message: type[Message], handler: Registered) -> None:
        registered = self._handlers.setdefault(message, [])
        if any(other.name == handler.name for other in registered):
            raise RegistrationError(
                f"{event_type(message)} has a handler called {handler.name} already"
            )
        registered.append(handler)

    @property
    def messages(self) -> tuple[type[Message], ...]:
        """The message classes that have a handler."""
        return tuple(self._handlers)

    def handlers_of(self, message: type[Message]) -> tuple[Registered, ...]:
        return tuple(self._handlers[message])

    @property
    def handlers(self) -> list[Registered]:
        """All handlers, in the order of registration by class."""
        return [handler for of_class in self._handlers.values() for handler in of_class]

    @property
    def types(self) -> frozenset[str]:
        """The event types that the service takes from others.

        They have a handler, or upcasters lead to a type that has one.
        """
        return (self.types_of("shared") | self.types_of("every_replica")) - self._own

    @property
    def _own(self) -> frozenset[str]:
        """What the service publishes to itself."""
        return self.wakeups | self.delayed | self.schedules.keys()

    def types_of(self, mode: DeliveryMode) -> frozenset[str]:
        """The event types that a handler takes with this `delivery`, and the service's own."""
        own = self._own if mode == "shared" else frozenset[str]()
        return own | {event_type(reading.sent) for reading, _ in self.readings(mode)}

    def readings(self, mode: DeliveryMode) -> Iterator[tuple[Reading, list[Registered]]]:
        """How each event type is read, and the handlers with this `delivery` that then take it.

        Raises RegistrationError for an upcaster whose results no handler takes.
        """
        for reading in self.upcasters.readings(self._handlers):
            handlers = [h for h in self._handlers[reading.handled] if h.options.delivery == mode]
            if handlers:
                yield reading, handlers

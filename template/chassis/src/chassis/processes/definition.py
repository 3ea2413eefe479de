"""What a team says of a process: its state, its key, and the handler of each event.

Knows no store and no bus: `runner` takes an event through a step.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from google.protobuf.message import Message

from chassis.context import Context
from chassis.contracts.event_types import event_type
from chassis.contracts.upcasters import RegistrationError
from chassis.processes.context import ProcessContext
from chassis.processes.wakeups import WakeUp
from chassis.retry import Doomed

State = TypeVar("State", bound=Message)
Event = TypeVar("Event", bound=Message)
Missing = Literal["retry", "ignore", "dead"]

Key = Callable[[Any], str]
Waker = Callable[[State, WakeUp, ProcessContext[Any]], Awaitable[None]]
Handler = Callable[[State, Event, ProcessContext[Any]], Awaitable[None]]
"""Changes the state in place."""


@dataclass(slots=True, eq=False)
class Step:
    """What an event does to a process: `starts` when there is none, else `goes_on`."""

    process: "Process[Any]"
    type: str
    by: Key
    starts: Handler[Any, Any] | None = None
    goes_on: Handler[Any, Any] | None = None
    missing: Missing = "retry"

    async def unbound(self, event: Message, context: Context) -> None:
        """What a step is without a store."""
        raise RuntimeError(f"process {self.process.name} has no store")

    def key_of(self, event: Message) -> str:
        """The key of the process that `event` is about. Raises Doomed without one."""
        try:
            key: object = self.by(event)
        except Exception as error:
            raise Doomed("bad_key", f"by= of process {self.process.name}: {error!r}") from error
        if not isinstance(key, str) or not key:
            raise Doomed(
                "bad_key",
                f"by= of process {self.process.name} gave {key!r} for a {self.type}, "
                "expected a non-empty string",
            )
        return key


class Process(Generic[State]):
    """A process of a service. Service.process makes it.

    `add` puts a step into the service's registry when its event type is new to the process,
    `add_wakes` the process when it can be woken.
    """

    def __init__(
        self,
        state: type[State],
        *,
        name: str,
        by: Key,
        max_bytes: int,
        add: Callable[[type[Message], Step], None],
        add_wakes: Callable[[], None],
    ) -> None:
        _plain(by, f"process {name}")
        self.state = state
        self.name = name
        self.max_bytes = max_bytes
        self._by = by
        self._add = add
        self._add_wakes = add_wakes
        self._steps: dict[type[Message], Step] = {}
        self.wakers: dict[str, Step] = {}
        """What a wake-up does, by its name."""

    def starts(
        self, message: type[Event], *, by: Callable[[Event], str] | None = None
    ) -> Callable[[Handler[State, Event]], Handler[State, Event]]:
        """Register the handler of a `message` that starts a process. Raises RegistrationError.

        While there is a process with the key, the event does nothing, unless `on` takes it too. It
        also does nothing for the retention after the process has ended.
        """

        def register(handler: Handler[State, Event]) -> Handler[State, Event]:
            step = self._step(message, handler, by)
            if step.starts is not None:
                raise RegistrationError(f"process {self.name} has a start by {step.type} already")
            step.starts = handler
            return handler

        return register

    def on(
        self,
        message: type[Event],
        *,
        missing: Missing = "retry",
        by: Callable[[Event], str] | None = None,
    ) -> Callable[[Handler[State, Event]], Handler[State, Event]]:
        """Register the handler of a `message` that moves a process on. Raises RegistrationError.

        `missing` says what becomes of an event whose process has not started. "retry": it is tried
        again as after a failure, and is a dead letter in the end. "ignore": nothing. "dead": a
        dead letter at once. An event whose process has ended does nothing. `by` gives the key of
        this event, where the process's own `by` does not fit.
        """

        def register(handler: Handler[State, Event]) -> Handler[State, Event]:
            if missing not in get_args(Missing):
                allowed = ", ".join(repr(word) for word in get_args(Missing))
                raise RegistrationError(
                    f"process {self.name}: missing={missing!r} must be one of {allowed}"
                )
            step = self._step(message, handler, by)
            if step.goes_on is not None:
                raise RegistrationError(f"process {self.name} takes {step.type} already")
            step.goes_on, step.missing = handler, missing
            return handler

        return register

    def wakes(self, name: str) -> Callable[[Waker[State]], Waker[State]]:
        """Register the handler of the wake-ups called `name`, which `ctx.wake` asks for.

        A wake-up that comes late does nothing: the process has ended, or has asked anew since.
        Raises RegistrationError.
        """

        def register(handler: Waker[State]) -> Waker[State]:
            if not inspect.iscoroutinefunction(handler):
                raise RegistrationError(
                    f"process {self.name}: the handler of wakes({name!r}) must be an `async def` "
                    "function"
                )
            if name in self.wakers:
                raise RegistrationError(f"process {self.name} has wakes({name!r}) already")
            if not self.wakers:
                self._add_wakes()
            self.wakers[name] = Step(self, f"wake-up {name}", self._by, goes_on=handler)
            return handler

        return register

    def _step(
        self,
        message: type[Event],
        handler: Handler[State, Event],
        by: Callable[[Event], str] | None,
    ) -> Step:
        type_ = event_type(message)
        if not inspect.iscoroutinefunction(handler):
            raise RegistrationError(
                f"process {self.name}: the handler of {type_} must be an `async def` function"
            )
        if by is not None:
            _plain(by, f"process {self.name}, {type_}")
        step = self._steps.get(message)
        if step is None:
            step = Step(self, type_, by or self._by)
            self._add(message, step)
            self._steps[message] = step
        elif by is not None and by is not step.by:
            raise RegistrationError(f"process {self.name} has another by= for {type_}")
        return step


def _plain(by: object, whose: str) -> None:
    if not callable(by) or inspect.iscoroutinefunction(by):
        raise RegistrationError(f"{whose}: by= must be a plain function of the event")

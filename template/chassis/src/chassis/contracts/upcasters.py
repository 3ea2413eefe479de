"""Event versions: upcasters, which turn an older event into the newer one that a handler takes.

Knows message classes and the functions between them; knows no envelope, no bus and no store.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message

from chassis.contracts.event_types import event_type, is_newer
from chassis.contracts.json_body import parse_json

Old = TypeVar("Old", bound=Message)
New = TypeVar("New", bound=Message)


class RegistrationError(TypeError):
    """A handler or an upcaster cannot be registered as it is written; the message names it."""


class UpcastFailed(Exception):
    """An upcaster raised, or gave something else than the newer event.

    It would do the same at every further attempt.
    """


@dataclass(frozen=True, slots=True)
class Reading:
    """How events of the class `sent` are read.

    `parse` turns a body into an event of `handled`, whose handlers take it. It raises DecodeError
    or UpcastFailed. `parse_json` is for a body of JSON, and raises BadJson or UpcastFailed.
    """

    sent: type[Message]
    handled: type[Message]
    parse: Callable[[bytes], Message]
    parse_json: Callable[[bytes], Message]


class Upcasters:
    """The registered upcasters: at most one from each class, and no way back."""

    def __init__(self) -> None:
        self._by_old: dict[type[Message], _Upcaster] = {}

    def add(self, old: type[Old], new: type[New], function: Callable[[Old], New]) -> None:
        """Register `function` from `old` to `new`. Raises RegistrationError."""
        name = getattr(function, "__name__", repr(function))
        upcaster = _Upcaster(
            name, f"upcaster {name} from {event_type(old)} to {event_type(new)}", function, old, new
        )
        _require_signature(upcaster)
        if (other := self._by_old.get(old)) is not None:
            raise RegistrationError(
                f"{upcaster.title} is the second from there, after {other.name}: chain them"
            )
        if is_newer(event_type(old), than=event_type(new)):
            raise RegistrationError(
                f"{upcaster.title} leads to an older version: name the older one first"
            )
        if old is new or any(step.new is old for step in self._from(new)):
            raise RegistrationError(
                f"{upcaster.title} closes a circle: its result is led back to {event_type(old)}"
            )
        self._by_old[old] = upcaster

    def readings(self, handled: Collection[type[Message]]) -> Iterator[Reading]:
        """How each class is read that is handled, or that upcasters lead to a handled class.

        An event is read as the first class on its way that is handled. Raises RegistrationError for
        an upcaster whose results no handler takes.
        """
        for message in dict.fromkeys([*handled, *self._by_old]):
            if message in handled:
                yield Reading(message, message, message.FromString, partial(parse_json, message))
                continue
            steps: list[_Upcaster] = []
            for step in self._from(message):
                steps.append(step)
                if step.new in handled:
                    break
            else:
                raise RegistrationError(
                    f"{steps[0].title} is of no use: no handler takes {event_type(steps[-1].new)}"
                )
            yield Reading(
                message,
                steps[-1].new,
                _chained(message.FromString, steps),
                _chained(partial(parse_json, message), steps),
            )

    def _from(self, message: type[Message]) -> "Iterator[_Upcaster]":
        """The steps that lead on from `message`, in order."""
        while (step := self._by_old.get(message)) is not None:
            yield step
            message = step.new


@dataclass(frozen=True, slots=True)
class _Upcaster:
    name: str
    title: str
    call: Callable[[Any], object]
    old: type[Message]
    new: type[Message]

    def __call__(self, event: Message) -> Message:
        try:
            made = self.call(event)
        except Exception as error:
            raise UpcastFailed(f"{self.title}: {error!r}") from error
        if not isinstance(made, self.new):
            raise UpcastFailed(f"{self.title} gave {_shown(type(made))}")
        return made


def _chained(
    read: Callable[[bytes], Message], steps: Sequence[_Upcaster]
) -> Callable[[bytes], Message]:
    first, *others = steps

    def parse(body: bytes) -> Message:
        event = first(read(body))
        for step in others:
            event = step(event)
        return event

    return parse


def _require_signature(upcaster: _Upcaster) -> None:
    if inspect.iscoroutinefunction(upcaster.call):
        raise RegistrationError(f"{upcaster.title} must be a plain function, not `async def`")
    signature = inspect.signature(upcaster.call)
    try:
        signature.bind(None)
    except TypeError:
        raise RegistrationError(
            f"{upcaster.title} must take one argument, the older event"
        ) from None
    taken = next(iter(signature.parameters.values()))
    if not _fits(taken.annotation, upcaster.old):
        raise RegistrationError(f"{upcaster.title} is written for {_shown(taken.annotation)}")
    if not _fits(signature.return_annotation, upcaster.new):
        raise RegistrationError(f"{upcaster.title} returns {_shown(signature.return_annotation)}")


def _fits(annotation: object, message: type[Message]) -> bool:
    """False if `annotation` is a class and `message` is not a subclass of it.

    Any other annotation is left to the type checker.
    """
    if annotation is inspect.Parameter.empty or not isinstance(annotation, type):
        return annotation is not None
    return issubclass(message, annotation)


def _shown(annotation: object) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return event_type(annotation)
    return inspect.formatannotation(annotation)

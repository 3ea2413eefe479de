"""What a handler asks for when it is registered, and what it may not ask for.

Knows no bus and no inbox: what comes of it is the service's part.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, get_args

from chassis.bus import DeliveryMode
from chassis.context import Context
from chassis.contracts.upcasters import RegistrationError

__all__ = ["Options", "Registered", "RegistrationError"]


@dataclass(frozen=True, slots=True)
class Options:
    """See Service.on."""

    key: Callable[[Any], str] | None
    concurrency: int | None
    ordered_by: Callable[[Any], str | None] | None
    delivery: DeliveryMode

    def check(self, whose: str) -> None:
        """Raises RegistrationError for what means nothing."""
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
                f"{whose}: key= says what is handled once, delivery='every_replica' handles it in each: leave one out"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """A handler as it was registered."""

    name: str
    call: Callable[[Any, Context], Awaitable[None]]
    options: Options

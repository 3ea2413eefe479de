"""How one handler's attempt at one event can end, and how a failure is judged.

Knows the text of a dead letter and when a failure is retried; settles nothing.
"""

import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from random import random

from chassis.bus import Delivery, Failure
from chassis.contracts.envelope import format_time
from chassis.reasons import Reason
from chassis.retry import Later, RetryPolicy, age_since

STACK_BYTES = 4096
MESSAGE_BYTES = 2048


class End(Enum):
    """An end that needs no further word."""

    DONE = "done"
    DUPLICATE = "duplicate"
    LOST = "lost"  # the lease was lost: another replica may be at work on the event


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds.

    `counted`: an attempt was used up. `failed`: there was an attempt, and it failed with `error`.
    """

    delay: float
    counted: bool
    failed: bool
    error: BaseException | None = None


Ending = End | Retry | Failure


class Interrupted(Exception):
    """The attempt ended for a reason that is not the event's fault: it comes again soon."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes the dead letters."""

    service: str
    version: str


class Judge:
    """Turns what went wrong into a retry or a dead letter."""

    def __init__(self, identity: Identity, policy: RetryPolicy) -> None:
        self._identity = identity
        self._policy = policy

    def failed(
        self,
        delivery: Delivery,
        error: BaseException,
        handler: str = "",
        *,
        policy: RetryPolicy | None = None,
        forgiven: bool = False,
    ) -> Retry | Failure:
        """The retry or dead letter that follows from an attempt that raised `error`.

        `policy` is the handler's own, if it has one. A `forgiven` attempt is not counted.
        """
        age = age_since(delivery.history.first_failure, datetime.now(UTC))
        decision = (policy or self._policy).decide(
            error, delivery.history.attempt, age, random, forgiven=forgiven
        )
        if isinstance(decision, Later):
            return Retry(decision.delay, counted=not forgiven, failed=True, error=error)
        return self.dead(delivery, decision.reason, str(error) or repr(error), error, handler)

    def dead(
        self,
        delivery: Delivery,
        reason: Reason,
        message: str,
        error: BaseException | None = None,
        handler: str = "",
    ) -> Failure:
        """A dead letter's text: no attempt will help.

        `reason` is one of the chassis' own few words.
        """
        now = format_time(datetime.now(UTC))
        return Failure(
            reason=reason,
            error="" if error is None else f"{type(error).__module__}.{type(error).__qualname__}",
            message=message.encode(errors="replace")[:MESSAGE_BYTES].decode(errors="ignore"),
            stack="" if error is None else _end_of_stack(error),
            handler=handler,
            attempts=0 if error is None else delivery.history.attempt,
            service=self._identity.service,
            version=self._identity.version,
            first_failure=delivery.history.first_failure or now,
            last_failure=now,
        )


def class_and_place(error: BaseException) -> str:
    """What a log line says of an error: its message may quote the event, and logs hold no payload.

    The dead letter has the message.
    """
    name = type(error).__qualname__
    frames = traceback.extract_tb(error.__traceback__)
    return f"{name} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name


def _end_of_stack(error: BaseException) -> str:
    """The last STACK_BYTES of the stack: the place of the error is at its end."""
    text = "".join(traceback.format_exception(error))
    return text.encode(errors="replace")[-STACK_BYTES:].decode(errors="ignore")

"""A deadline for each running handler, and one timer for all with the same time.

A timer of its own for every event would cost more CPU than the rest of the pipeline. Handlers have
the same time, so they come due in the order they began.
"""

import asyncio
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False, slots=True)
class Deadline:
    """`task` is cancelled at `at` (the loop's clock) unless the deadline has been lifted before."""

    task: asyncio.Task[Any]
    at: float
    expired: bool = False


class Deadlines:
    """`seconds` is the time each handler has; `named` says what sets it."""

    def __init__(self, seconds: float, named: str = "CHASSIS_HANDLER_TIMEOUT_SECONDS") -> None:
        self.seconds = seconds
        self.named = named
        self._running: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any]) -> Deadline:
        """Cancel `task` after the time is up, until `lift`."""
        loop = asyncio.get_running_loop()
        deadline = Deadline(task, loop.time() + self.seconds)
        self._running[deadline] = None
        if self._timer is None:
            self._timer = loop.call_at(deadline.at, self._ring)
        return deadline

    def lift(self, deadline: Deadline) -> None:
        """The handler has ended.

        The cancellation by an expired deadline is taken back.
        """
        if deadline.expired:
            deadline.task.uncancel()
        else:
            del self._running[deadline]

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for deadline in list(self._running):
            if deadline.at > loop.time():
                self._timer = loop.call_at(deadline.at, self._ring)
                return
            del self._running[deadline]
            deadline.expired = True
            deadline.task.cancel()

"""A failing dependency: when most events fail, the consumer pauses and probes.

No attempt is used up. `Breaker` decides, without a clock and without randomness of its own.
`FailurePause` applies the decision to the bus. Neither knows a handler, nor why an event failed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from contextvars import Context
from enum import Enum
from random import random

import structlog

from chassis.backoff import backoff
from chassis.handling.endings import class_and_place
from chassis.handling.pauses import Pauses

_log = structlog.get_logger(__name__)


class State(Enum):
    """`CLOSED` is the normal state.

    `PROBED`: enough probes were taken, and none of them has ended well yet.
    """

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"
    PROBED = "probed"


_CLOSED = State.CLOSED  # asked for each event, and an enum's attribute is the slower one


class Breaker:
    """Opens when most of the last `window` outcomes are failures.

    At least the share `ratio` must be failures, of at least `least` different events; 0 turns the
    breaker off. Only the first failure of an event counts: a few events that never work, alone in a
    quiet queue, open nothing.

    After `delay` seconds up to `probes` events are let through. The first that works closes the
    breaker; each time in vain doubles the delay, up to `delay_max`. `who` tells apart who handles
    an event, a task for instance.
    """

    def __init__(
        self,
        ratio: float,
        *,
        window: int = 20,
        least: int = 10,
        probes: int = 5,
        delay: float = 1.0,
        delay_max: float = 30.0,
    ) -> None:
        self.state = State.CLOSED
        self._ratio = ratio
        self._least = least
        self._probes = probes
        self._delay = delay
        self._delay_max = delay_max
        # The event that failed, None for an event that worked.
        self._outcomes: deque[Hashable] = deque(maxlen=window)
        self._opened = 0  # in a row
        self._taken = 0
        self._running: set[Hashable] = set()
        self._in_vain = False

    def delay(self, random: Callable[[], float]) -> float:
        """Seconds until the next probe, at least half of the full delay.

        `random` gives a number in [0, 1).
        """
        return backoff(self._opened, self._delay, self._delay_max, random, least=0.5)

    def admit(self, who: Hashable) -> bool:
        """Whether an event may be handled now; while probing, the answer makes it a probe."""
        if self.state is State.PROBING:
            self._running.add(who)
            self._taken += 1
            if self._taken >= self._probes:
                self.state = State.PROBED
            return True
        return self.state is _CLOSED

    def succeeded(self, who: Hashable) -> None:
        """An event was handled.

        Only a probe proves anything: other events may have begun before all of them failed.
        """
        if self.state is _CLOSED:
            self._outcomes.append(None)
        elif who in self._running:
            self.state = State.CLOSED
            self._opened = 0
            self._running.clear()

    def failed(self, who: Hashable, event: Hashable, attempt: int) -> None:
        """A handler failed at attempt number `attempt` (from 1); another attempt might work."""
        if self.state is _CLOSED:
            if attempt == 1:
                self._outcomes.append(event)
                if self._most_fail():
                    self._open()
        elif who in self._running:
            self._in_vain = True
            self.ended(who)

    def ended(self, who: Hashable) -> None:
        """An event is settled.

        A probe that neither worked nor failed, such as a duplicate, says nothing.
        """
        if who not in self._running:
            return
        self._running.discard(who)
        if self._running:
            return
        if self._in_vain:
            self._open()
        else:
            self.probe()

    def probe(self) -> None:
        """The delay is over: let a few events through."""
        self.state = State.PROBING
        self._taken = 0
        self._in_vain = False

    def _most_fail(self) -> bool:
        if not self._ratio:
            return False
        worked = self._outcomes.count(None)
        # A set, because an event may be delivered twice as a first attempt.
        failing = len(set(self._outcomes)) - (worked > 0)
        return failing >= self._least and failing >= self._ratio * (failing + worked)

    def _open(self) -> None:
        self.state = State.OPEN
        self._opened += 1
        self._outcomes.clear()


class FailurePause:
    """Holds the pause while `breaker` is open; tells once when it begins and when it is over."""

    def __init__(self, breaker: Breaker, pauses: Pauses) -> None:
        self._breaker = breaker
        self._pauses = pauses
        self._applied = State.CLOSED
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def active(self) -> bool:
        """From the beginning of the pause until an event has worked, probes included."""
        return self._applied is not _CLOSED

    def admit(self, who: Hashable) -> bool:
        """Whether the event in hand may be handled now; otherwise put it off."""
        if self._applied is _CLOSED:
            return True
        admitted = self._breaker.admit(who)
        self._apply()
        return admitted

    def succeeded(self, who: Hashable) -> None:
        """See Breaker."""
        self._breaker.succeeded(who)
        if self._applied is not _CLOSED:
            self._apply()

    def failed(self, who: Hashable, event: Hashable, attempt: int, error: BaseException) -> bool:
        """See Breaker. True when the failure is not to be held against the event."""
        forgiven = self._breaker.state is not _CLOSED
        self._breaker.failed(who, event, attempt)
        if not forgiven and self._breaker.state is State.OPEN:
            _log.error(
                "most events fail, the consumer pauses and probes; no attempts are used up",
                error=class_and_place(error),
            )
        self._apply()
        return forgiven or self._breaker.state is not _CLOSED

    def ended(self, who: Hashable) -> None:
        """See Breaker."""
        if self._applied is not _CLOSED:
            self._breaker.ended(who)
            self._apply()

    def stop(self) -> None:
        """Probe no more: the service drains."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _apply(self) -> None:
        state = self._breaker.state
        if state is self._applied or self._stopped:
            return
        self._applied = state
        if state is State.OPEN:
            self._pauses.hold("failures")
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(
                self._breaker.delay(random), self._probe, context=Context()
            )
        elif state is State.PROBED:
            self._pauses.hold("failures")
        else:
            self._pauses.lift("failures")
            if state is _CLOSED:
                _log.info("an event was handled again, the consumer resumes")

    def _probe(self) -> None:
        self._breaker.probe()
        self._apply()

"""The life of a replica: signals, liveness and readiness. `process` has the order of a drain.

Knows no broker and no store.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import structlog

_log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 1.0
STUCK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Health:
    """An answer to a probe. `reasons` names each fault in one word."""

    ok: bool
    reasons: tuple[str, ...] = ()


class Lifecycle:
    """Turns SIGTERM and SIGINT into a drain; a second one ends the process at once.

    Liveness is the event loop's heartbeat, never the broker: a broker's outage must not restart
    every pod. Readiness is the sum of the conditions added with `require`, and not draining.
    `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.stopping = asyncio.Event()
        """Set when the drain must begin."""
        self._conditions: dict[str, Callable[[], bool]] = {}
        self._beat = clock()

    def require(self, name: str, condition: Callable[[], bool]) -> None:
        """Be ready only while `condition()` is true.

        Otherwise the probe answers with `name`.
        """
        self._conditions[name] = condition

    def stop(self) -> None:
        """Begin to drain."""
        self.stopping.set()

    def handle_signals(self) -> None:
        """SIGTERM and SIGINT: drain; a second one: exit at once with 128 + the signal's number."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        if self.stopping.is_set():
            _log.warning("second signal, stopping at once", signal=signal.Signals(number).name)
            os._exit(128 + number)
        _log.info("stopping", signal=signal.Signals(number).name)
        self.stop()

    async def beat(self, on_lag: Callable[[float], None]) -> None:
        """Run for ever: the heartbeat. `on_lag` gets the seconds by which the loop woke late."""
        while True:
            before = self._clock()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self._beat = self._clock()
            on_lag(max(0.0, self._beat - before - HEARTBEAT_SECONDS))

    def liveness(self) -> Health:
        late = self._clock() - self._beat
        return Health(True) if late < STUCK_SECONDS else Health(False, ("event_loop_stuck",))

    def readiness(self) -> Health:
        reasons = [name for name, condition in self._conditions.items() if not condition()]
        if self.stopping.is_set():
            reasons.append("draining")
        return Health(not reasons, tuple(reasons))

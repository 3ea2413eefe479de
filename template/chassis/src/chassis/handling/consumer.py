"""The one way through: delivery, claim, handler, publish, complete, acknowledge.

Knows the ports (bus, inbox), never a broker or a store. The bus runs `Consumer.on_delivery` in a
task of its own for each delivery. The way makes no further task, timer or lookup for each event.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from chassis.bus import Bus, BusUnavailable, Delivery
from chassis.handling.attempts import Gathering
from chassis.handling.breaker import FailurePause
from chassis.handling.intake import Intake
from chassis.handling.leases import LeaseKeeper
from chassis.handling.outage import StoreOutage
from chassis.handling.pauses import Pauses
from chassis.handling.setup import SetupPause
from chassis.inbox import InboxUnavailable
from chassis.retry import SetupFault
from chassis.telemetry.metrics import Metrics


class Consumer:
    """Takes each delivery to one of five outcomes.

    They are done, later, dead, duplicate and handed back. `shared` takes the events that the
    replicas share, `for_each` the events that every replica gets. A drain leaves a cancelled
    handler behind after `cancel_seconds`.
    """

    def __init__(
        self,
        shared: Intake,
        for_each: Intake,
        *,
        bus: Bus,
        leases: LeaseKeeper,
        outage: StoreOutage,
        failures: FailurePause,
        setup: SetupPause,
        pauses: Pauses,
        metrics: Metrics,
        cancel_seconds: float,
    ) -> None:
        self._shared = shared
        self._for_each = for_each
        self._bus = bus
        self._leases = leases
        self._outage = outage
        self._failures = failures
        self._setup = setup
        self._pauses = pauses
        self._abandoned = metrics.abandoned
        self._cancel_seconds = cancel_seconds
        self._in_flight: set[asyncio.Task[Any]] = set()
        self._draining = False
        self._keeping: asyncio.Task[None] | None = None
        metrics.watch_in_flight(lambda: len(self._in_flight))

    @property
    def store_reachable(self) -> bool:
        """True from `start` on, but not while the store does not answer."""
        return self._keeping is not None and not self._outage.active

    @property
    def consuming(self) -> bool:
        """True while the bus delivers, and while the consumer pauses for what its handlers met.

        Failing events show the state of a dependency, not of this replica: a release that mends
        them must become ready.
        """
        paused_by_events = self._failures.active or self._setup.fault is not None
        return self._bus.connected if paused_by_events else self._bus.consuming

    @property
    def setup_fault(self) -> SetupFault | None:
        """The fault of the service's set-up that a handler met, if any."""
        return self._setup.fault

    @property
    def gatherings(self) -> set[Gathering]:
        """Where events wait to be handled together."""
        return self._shared.gatherings

    def start(self) -> None:
        """Begin to keep leases alive. Call once the inbox is open, before the bus starts."""
        self._keeping = asyncio.create_task(self._leases.run())

    async def drain(self, deadline: float) -> int:
        """Stop taking first, then let the events in flight finish for `deadline` seconds.

        Handlings that last longer are cancelled and handed back. Returns how many.
        """
        self._draining = True
        self._outage.stop()
        self._failures.stop()
        ends_at = asyncio.get_running_loop().time() + deadline
        await self._pauses.close()
        for turns in self._shared.turns | self._for_each.turns:
            turns.close()
        for gathering in self.gatherings:
            gathering.close()
        late: set[asyncio.Task[Any]] = set()
        if self._in_flight:
            left = ends_at - asyncio.get_running_loop().time()
            _, late = await asyncio.wait(self._in_flight, timeout=max(0.0, left))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=self._cancel_seconds)
        if self._keeping is not None:
            self._keeping.cancel()
        self._abandoned.inc(len(late))
        return len(late)

    def on_delivery(self, delivery: Delivery) -> Coroutine[Any, Any, None]:
        """Take one delivery of the shared subscription to its outcome."""
        return self._receive(delivery, self._shared)

    def on_delivery_for_each(self, delivery: Delivery) -> Coroutine[Any, Any, None]:
        """Take one delivery of this replica's own subscription to its outcome."""
        return self._receive(delivery, self._for_each)

    async def _receive(self, delivery: Delivery, intake: Intake) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        if self._draining:
            await intake.settling.hand_back(delivery)
            return
        self._in_flight.add(task)
        try:
            await intake.take(task, delivery)
        except asyncio.CancelledError:
            await intake.settling.hand_back(delivery)
            raise
        except InboxUnavailable as error:
            self._outage.report(error)
            await intake.settling.hand_back(delivery)
        except SetupFault:
            await intake.settling.hand_back(delivery)
        except BusUnavailable as error:
            await intake.settling.hold_off(delivery, error)
        except Exception as error:  # noqa: BLE001 - logged with its stack; no delivery stays unsettled
            await intake.settling.after_defect(delivery, error)
        finally:
            self._failures.ended(task)
            self._in_flight.discard(task)

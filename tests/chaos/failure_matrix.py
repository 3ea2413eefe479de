"""Plays one row of the failure matrix: a fault at one point of an event's way, and its outcome."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.remains import remains
from tests.chaos.repeats import Effects
from tests.chaos.world import World, victims
from tests.e2e.publishers import bare_publisher, publish_all, signed_up
from tests.e2e.replicas import Replica
from tests.waiting import until

MARKED = "marked"
AROUND = [f"around-{number}" for number in range(10)]
BESIDE = [f"beside-{number}" for number in range(3)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the world outside saw, once the broker holds nothing any more."""

    executions: Counter[str]
    effects: Effects
    published: dict[str, set[str]]
    """For each event the ids of what was published because of it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A world with a service in which the fault has not happened yet."""

    made: World
    victim: Replica
    over: Path

    def publish(self, ids: Iterable[str]) -> None:
        async def publish() -> None:
            async with bare_publisher(self.made.bus_url) as publisher:
                await publish_all(publisher, [(id_, signed_up(id_)) for id_ in ids])

        asyncio.run(publish())

    def until_the_fault(self) -> None:
        until(self.over.exists, "the event coming to the point of the fault")

    def go_on(self) -> None:
        """End a fault of the kind `hold`."""
        self.over.with_name("go").touch()

    def until_stopped(self) -> None:
        process = psutil.Process(self.victim.server.pid)
        until(lambda: process.status() == psutil.STATUS_STOPPED, "the process being stopped")

    def until_killed(self) -> None:
        """The victim has killed itself, and is started again."""
        process = self.victim.server._running()
        until(lambda: process.poll() is not None, "the process killing itself")
        assert process.returncode == -signal.SIGKILL
        self.made.diary.killed[process.pid] = self.over.stat().st_mtime
        self.victim.server.kill()  # it has ended: only tidies up
        self.victim.server.start()

    def outcome(self, events: Iterable[str]) -> Outcome:
        """The outcome, once all `events` and their publications are handled and nothing is left."""
        expected = set(events)
        sink = self.made.sink
        until(lambda: sink.handled() >= expected, "every event being handled")
        until(lambda: sink.published().keys() >= expected, "every publication being handled")
        until(
            lambda: self.made.idle() and not remains(self.made.bus_url).dead,
            "the broker being empty",
        )
        return Outcome(sink.executions(), sink.effects(self.made.diary), sink.published())


@contextmanager
def scene(
    bus: str,
    store: str,
    contracts: Path,
    folder: Path,
    *,
    point: str,
    fault: str,
    beside: int = 0,
    prefetch: int = 50,
    lease: float = 4.0,
) -> Iterator[Scene]:
    """A service that waits for `fault` at `point`; see tests/chaos/victim.py.

    `lease`: seconds until another replica takes the event after a kill. A fault of the kind
    `hold` needs a long lease.
    """
    over = folder / "over"
    with victims(bus, store, folder) as made:
        (victim,) = made.start_replicas(
            1,
            PYTHONPATH=f"{contracts}",
            CHASSIS_LEASE_SECONDS=str(lease),
            CHASSIS_HANDLER_TIMEOUT_SECONDS=str(lease * 0.95),
            CHASSIS_PREFETCH=str(prefetch),
            VICTIM_POINT=point,
            VICTIM_FAULT=fault,
            VICTIM_OVER=str(over),
            VICTIM_BESIDE=str(beside),
        )
        yield Scene(made, victim, over)

"""What the gauges of the backlog say, and when they say nothing."""

import asyncio
from collections.abc import AsyncIterator
from math import isnan

import pytest

from chassis.bus import Backlog, BusUnavailable
from chassis.bus.memory import MemoryBus
from chassis.replica.backlog import watch
from chassis.telemetry.metrics import Metrics
from tests.chassis.conftest import LogLines
from tests.waiting import eventually


class Bus(MemoryBus):
    """A bus that gives, or raises, what it is told to."""

    answer: Backlog | Exception = Backlog(7, 2, most_dead=10)

    async def backlog(self, service: str) -> Backlog:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Watched:
    def __init__(self, log_lines: LogLines) -> None:
        self.bus = Bus()
        self.log_lines = log_lines
        self.metrics = Metrics("billing-svc", "1", "1")

    async def run(self) -> None:
        await watch(self.bus, "billing-svc", self.metrics, period=0.001)

    def value(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(name)
        assert value is not None
        return value

    def known(self) -> bool:
        return not isnan(self.value("chassis_backlog_messages"))


@pytest.fixture
async def watched(log_lines: LogLines) -> AsyncIterator[Watched]:
    watched = Watched(log_lines)
    assert not watched.known(), "nobody has been asked yet"
    task = asyncio.create_task(watched.run())
    yield watched
    task.cancel()


async def test_the_gauges_are_what_the_bus_says(watched: Watched) -> None:
    await eventually(watched.known)
    assert watched.value("chassis_backlog_messages") == 7
    assert watched.value("chassis_dead_letters_waiting") == 2
    assert watched.value("chassis_dead_letters_bound") == 10


async def test_dead_letters_without_a_bound_have_no_number_for_it(watched: Watched) -> None:
    watched.bus.answer = Backlog(7, 2)
    await eventually(lambda: watched.value("chassis_dead_letters_waiting") == 2)
    await eventually(lambda: isnan(watched.value("chassis_dead_letters_bound")))


async def test_without_a_broker_the_backlog_is_not_known_until_it_is_back(watched: Watched) -> None:
    await eventually(watched.known)
    watched.bus.answer = BusUnavailable("the broker is away")
    await eventually(lambda: not watched.known())
    assert isnan(watched.value("chassis_dead_letters_waiting"))
    watched.bus.answer = Backlog(0, 0)
    await eventually(watched.known)


async def test_a_defect_of_the_adapter_is_told_and_ends_nothing(watched: Watched) -> None:
    await eventually(watched.known)
    watched.bus.answer = KeyError("num_pending")
    await eventually(lambda: not watched.known())
    assert "KeyError" in str(watched.log_lines()[0]["exception"])
    watched.bus.answer = Backlog(0, 0)
    await eventually(watched.known)

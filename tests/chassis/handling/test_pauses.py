"""The bus takes deliveries only while there is no reason against it."""

import asyncio

from chassis.bus.memory import MemoryBus
from chassis.handling.pauses import Pauses
from chassis.telemetry.metrics import Metrics


class Bus(MemoryBus):
    """Tells what was asked of it, and does it only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.slow = asyncio.Event()
        self.slow.set()

    async def pause(self) -> None:
        self.calls.append("pause")
        await self.slow.wait()
        self.calls.append("paused")

    async def resume(self) -> None:
        self.calls.append("resume")
        await self.slow.wait()
        self.calls.append("resumed")


def pauses(bus: Bus) -> tuple[Pauses, Metrics]:
    metrics = Metrics("billing-svc", "1.2.3", "0")
    return Pauses(bus, metrics.paused), metrics


async def test_a_reason_that_ends_does_not_resume_the_bus_while_another_holds() -> None:
    bus = Bus()
    held, metrics = pauses(bus)
    held.hold("store")
    held.hold("failures")
    held.lift("store")
    await held.in_effect()
    assert bus.calls == ["pause", "paused"]
    gauge = metrics.registry.get_sample_value
    assert gauge("chassis_consumer_paused", {"reason": "store"}) == 0
    assert gauge("chassis_consumer_paused", {"reason": "failures"}) == 1
    held.lift("failures")
    await held.in_effect()
    assert bus.calls == ["pause", "paused", "resume", "resumed"]
    assert gauge("chassis_consumer_paused", {"reason": "failures"}) == 0


async def test_a_pause_that_is_over_before_the_bus_was_told_leaves_the_bus_alone() -> None:
    bus = Bus()
    held, _ = pauses(bus)
    held.hold("failures")
    held.lift("failures")
    await held.in_effect()
    assert bus.calls == []


async def test_a_resume_waits_for_the_pause_before_it() -> None:
    bus = Bus()
    bus.slow.clear()
    held, _ = pauses(bus)
    held.hold("failures")
    while not bus.calls:
        await asyncio.sleep(0)
    held.lift("failures")
    bus.slow.set()
    await held.in_effect()
    assert bus.calls == ["pause", "paused", "resume", "resumed"]


async def test_after_the_close_nothing_resumes_the_bus() -> None:
    bus = Bus()
    held, _ = pauses(bus)
    held.hold("store")
    await held.close()
    held.lift("store")
    await held.in_effect()
    assert bus.calls == ["pause", "paused"]


async def test_a_close_in_the_middle_of_a_resume_ends_with_a_paused_bus() -> None:
    bus = Bus()
    held, _ = pauses(bus)
    held.hold("store")
    await held.in_effect()
    bus.slow.clear()
    held.lift("store")
    while "resume" not in bus.calls:
        await asyncio.sleep(0)
    closing = asyncio.create_task(held.close())
    await asyncio.sleep(0)
    bus.slow.set()
    await closing
    assert bus.calls[-2:] == ["pause", "paused"]

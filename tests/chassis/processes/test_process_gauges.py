"""What the gauges of processes show."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isnan

from prometheus_client import CollectorRegistry

from chassis.inbox import InboxUnavailable
from chassis.processes.memory import MemoryProcesses
from chassis.processes.store import Address, Record, Tally, Wake
from chassis.processes.watch import watch
from chassis.telemetry.processes import ProcessMetrics
from tests.waiting import eventually

NOW = datetime.now(UTC)
RECORD = Record(
    Address("OrderState", "o-1"),
    instance="i-1",
    status="active",
    state_type="acme.orders.v1.OrderState",
    state=b"",
    started=NOW - timedelta(hours=3),
    changed=NOW - timedelta(hours=2),
    last_event="acme.orders.v1.OrderPlaced",
)


class Store(MemoryProcesses):
    def __init__(self) -> None:
        super().__init__(3600)
        self.away = False
        self.asked = 0

    async def tally(self) -> Sequence[Tally]:
        self.asked += 1
        if self.away:
            raise InboxUnavailable("away")
        return await super().tally()


async def looked(store: Store) -> CollectorRegistry:
    """The gauges after one look."""
    registry, before = CollectorRegistry(), store.asked
    watching = asyncio.create_task(watch(store, ["OrderState"], ProcessMetrics(registry)))
    await eventually(lambda: store.asked > before)
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return registry


def shown(registry: CollectorRegistry, status: str) -> float | None:
    labels = {"process": "OrderState", "status": status}
    return registry.get_sample_value("chassis_processes", labels)


def idle(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("chassis_process_idle_seconds", {"process": "OrderState"})


async def test_processes_are_counted_by_status_and_the_longest_idle_one_is_shown() -> None:
    store = Store()
    await store.save(RECORD, 0)
    await store.save(replace(RECORD, address=Address("OrderState", "o-2"), changed=NOW), 0)
    over = replace(RECORD, address=Address("OrderState", "o-3"), status="completed")
    await store.save(over, 0)
    registry = await looked(store)
    assert (shown(registry, "active"), shown(registry, "completed")) == (2, 1)
    assert shown(registry, "abandoned") == 0
    longest = idle(registry)
    assert longest is not None
    assert 7200 <= longest <= (datetime.now(UTC) - RECORD.changed).total_seconds()


async def test_a_process_that_waits_for_its_wake_up_is_not_idle() -> None:
    store = Store()
    await store.save(replace(RECORD, wakes={"late": Wake(1, NOW + timedelta(hours=1))}), 0)
    assert idle(await looked(store)) == 0


async def test_what_is_not_known_is_not_a_number() -> None:
    store = Store()
    store.away = True
    found = shown(await looked(store), "active")
    assert found is not None
    assert isnan(found)

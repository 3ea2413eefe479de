"""Processes under kills: shuffled, repeated events, and every order ends as it has to.

    python -m tests.chaos.processes --bus nats --store nats-kv --orders 10000 --kills 30

prints one line, and exits with 1 if an order did not end, ended otherwise, or lost or repeated
something that it published.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from google.protobuf.message import Message

from chassis import adapters
from chassis.bus import NoBusMetrics
from chassis.contracts.event_types import event_type, to_event
from chassis.processes.operations import Filter, select
from chassis.processes.store import Record
from chassis.settings import Settings, load
from tests.brokers.rabbitmq import stop_shared_rabbitmq
from tests.chaos.remains import remains
from tests.chaos.world import REPOSITORY, World, world
from tests.contracts import compile_into
from tests.waiting import until

COPIES = 2
SECONDS_BETWEEN_KILLS = 2.0
ENV = {
    "CHASSIS_MAX_ATTEMPTS": "100",  # events come long before those that start their processes
    "CHASSIS_BACKOFF_MAX_SECONDS": "2",
    "CHASSIS_LEASE_SECONDS": "6",
    "CHASSIS_HANDLER_TIMEOUT_SECONDS": "4",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What has become of the orders; `wrong` and `published` are told by order."""

    orders: int
    kills: int
    seconds: float
    wrong: list[str]
    published: list[str]
    dead: int

    @property
    def clean(self) -> bool:
        return not self.wrong and not self.published and not self.dead

    def __str__(self) -> str:
        return (
            f"{self.orders} orders, {self.kills} kills, {self.seconds:.0f} s: "
            f"{len(self.wrong)} ended wrong, {len(self.published)} published wrong, "
            f"{self.dead} dead letters"
        )


def outcome_of(number: int) -> str:
    """A third is refused, and of the rest every fifth is not paid."""
    if number % 3 == 0:
        return "undone"
    return "cancelled" if number % 5 == 0 else "shipped"


def play(
    bus: str, store: str, contracts: Path, folder: Path, *, orders: int, kills: int, seed: int
) -> Report:
    """`orders` processes over two replicas, one of which is killed every few seconds."""
    program = [sys.executable, "-m", "tests.chaos.order_victim"]
    with world(bus, REPOSITORY, folder, store=store, program=program) as made:
        begun, chance = time.monotonic(), Random(seed)
        replicas = made.start_replicas(2, PYTHONPATH=str(contracts), **ENV)
        settings = load({}, bus_url=made.bus_url, inbox_url=made.store_url or made.bus_url)
        asyncio.run(_publish(settings, _shuffled(orders, chance)))
        for _ in range(kills):
            replica = chance.choice(replicas)
            replica.server.kill()
            replica.server.start()
            time.sleep(SECONDS_BETWEEN_KILLS * chance.random())
        patience = 120.0 + orders / 20
        records = asyncio.run(_ended(settings, orders, patience))
        until(made.idle, "nothing being in hand", patience)
        return Report(
            orders,
            kills,
            time.monotonic() - begun,
            _wrong(records, orders),
            _published(made, orders),
            remains(made.bus_url).dead,
        )


def _shuffled(orders: int, chance: Random) -> list[tuple[str, Message]]:
    from acme.orders.v1.order_pb2 import (  # noqa: PLC0415 - generated when this runs by hand
        OrderPlaced,
        OrderShipped,
        PaymentTaken,
        ShipmentRefused,
    )

    events: list[tuple[str, Message]] = []
    for number in range(orders):
        key, outcome = f"o-{number}", outcome_of(number)
        end = ShipmentRefused if outcome == "undone" else OrderShipped
        story: list[Message] = [OrderPlaced(order_id=key, amount=int(outcome != "cancelled"))]
        if outcome != "cancelled":
            story += [PaymentTaken(order_id=key), end(order_id=key)]
        events += [(f"{key}-{event_type(event)}", event) for event in story] * COPIES
    chance.shuffle(events)
    return events


async def _publish(settings: Settings, events: Iterable[tuple[str, Message]]) -> None:
    bus = adapters.open_bus(settings, "orders", NoBusMetrics())
    await bus.start()
    await bus.wait_ready()
    for id_, event in events:
        await bus.publish(to_event(event, source="shop", id_=id_))
    await bus.close()


async def _ended(settings: Settings, orders: int, patience: float) -> list[Record]:
    """The orders, once all have ended or `patience` seconds are over."""
    inbox = adapters.open_inbox(settings)
    store = adapters.open_processes(settings, "billing-svc", inbox)
    async with AsyncExitStack() as stack:
        if store.transactional:
            stack.push_async_callback(inbox.close)
            await inbox.open()
        stack.push_async_callback(store.close)
        await store.open()
        deadline = time.monotonic() + patience
        while True:
            found = await select(store, Filter(status=None), datetime.now(UTC))
            ended = [record for record in found.records if record.status != "active"]
            if len(ended) == orders or time.monotonic() > deadline:
                return ended
            await asyncio.sleep(0.5)


def _wrong(records: Iterable[Record], orders: int) -> list[str]:
    from acme.orders.v1.order_pb2 import OrderState  # noqa: PLC0415 - as above

    steps = {
        "shipped": ["paid", "shipped"],
        "undone": ["paid", "refused"],
        "cancelled": ["cancelled"],
    }
    states = {record.address.key: OrderState.FromString(record.state) for record in records}
    wrong = []
    for number in range(orders):
        state, outcome = states.get(f"o-{number}"), outcome_of(number)
        if state is None or state.outcome != outcome or sorted(state.notes) != steps[outcome]:
            wrong.append(f"o-{number} must be {outcome}: {state}")
    return wrong


def _published(made: World, orders: int) -> list[str]:
    """What was lost, or came under several ids, or must not be there."""
    kinds = {
        "shipped": {"ShipmentWanted"},
        "undone": {"ShipmentWanted", "PaymentReturned"},
        "cancelled": {"OrderCancelled"},
    }
    expected = {
        f"{kind} o-{number}" for number in range(orders) for kind in kinds[outcome_of(number)]
    }
    ids = made.sink.published()
    several = {cause for cause, seen in ids.items() if len(seen) > 1}
    return sorted((expected ^ ids.keys()) | several)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bus", choices=["rabbitmq", "nats"], default="nats")
    parser.add_argument("--store", choices=["nats-kv", "redis", "postgres"], default="nats-kv")
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=20261130)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dockyard-processes-") as folder:
        contracts, run = Path(folder, "contracts"), Path(folder, "run")
        for path in (contracts, run):
            path.mkdir()
        compile_into(contracts)
        sys.path.insert(0, str(contracts))
        try:
            report = play(
                asked.bus,
                asked.store,
                contracts,
                run,
                orders=asked.orders,
                kills=asked.kills,
                seed=asked.seed,
            )
        finally:
            stop_shared_rabbitmq()
    print(f"{asked.bus} {asked.store}: {report}")  # noqa: T201 - what the command is for
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())

"""Two versions of a service on NATS share a consumer, and neither breaks the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from nats import connect as connect_bare
from nats.js.api import ConsumerConfig, DeliverPolicy
from structlog.testing import capture_logs

from chassis.bus.nats.filters import united
from tests.chassis.bus.test_bus_conformance import OPENED, SIGNED_UP, Replica, event, publisher
from tests.chassis.bus_labs import NatsLab, nats_lab
from tests.waiting import eventually

SERVICE = "billing-svc"
BOTH = frozenset({SIGNED_UP, OPENED})
REPLAYS = f"replay.{SERVICE}.>"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[NatsLab]:
    async with nats_lab(tmp_path) as lab:
        yield lab


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def consumer(lab: NatsLab, name: str = SERVICE) -> Any:
    async with await connect_bare(lab.url) as bare:
        return (await bare.jetstream().consumer_info("EVENTS", name)).config


async def make_consumer(lab: NatsLab, **config: Any) -> None:
    """As an operator or an older version would have."""
    async with Replica(lab, "other-svc"):
        pass  # the stream is there
    async with await connect_bare(lab.url) as bare:
        made = ConsumerConfig(
            durable_name=SERVICE, deliver_policy=DeliverPolicy.NEW, max_deliver=-1, **config
        )
        await bare.jetstream().add_consumer("EVENTS", made)


async def test_a_replica_of_the_older_version_that_connects_anew_takes_no_type_away(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    older = await stack.enter_async_context(Replica(lab))
    newer = await stack.enter_async_context(Replica(lab, types=BOTH))
    older.bus._link.suspect("the network was away")  # type: ignore[attr-defined] # of NATS
    await eventually(lambda: not older.bus.consuming)
    await eventually(lambda: older.bus.consuming)
    publish = await publisher(lab, stack)
    await asyncio.gather(*(publish(event(b"%d" % n, id_=str(n), type_=OPENED)) for n in range(20)))
    await eventually(lambda: len(older.got) + len(newer.got) == 20)


async def test_versions_that_begin_at_once_all_get_their_types(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    await stack.enter_async_context(Replica(lab))
    types = [f"acme.billing.v{number}.AccountOpened" for number in range(1, 7)]
    replicas = [Replica(lab, types=frozenset({SIGNED_UP, type_})) for type_ in types]
    await asyncio.gather(*(stack.enter_async_context(replica) for replica in replicas))
    filters = (await consumer(lab)).filter_subjects
    assert sorted(filters) == sorted(
        [*(f"events.{type_}" for type_ in [SIGNED_UP, *types]), REPLAYS]
    )


async def test_a_type_of_another_version_is_told_of_once(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async with Replica(lab, types=BOTH):
        pass
    with capture_logs() as logs:
        older = await stack.enter_async_context(Replica(lab))
        publish = await publisher(lab, stack)
        await publish(event(b"1", id_="1"))
        await publish(event(b"2", id_="2", type_=OPENED))
        await publish(event(b"3", id_="3", type_=OPENED))
        await older.until(3)
    told = [entry for entry in logs if "does not handle" in entry["event"]]
    assert [(entry["consumer"], entry["subject"]) for entry in told] == [
        (SERVICE, f"events.{OPENED}")
    ]


async def test_a_consumer_whose_wildcard_has_our_types_keeps_it(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    await make_consumer(lab, filter_subject="events.>")
    replica = await stack.enter_async_context(Replica(lab))
    assert sorted((await consumer(lab)).filter_subjects) == ["events.>", REPLAYS]
    await (await publisher(lab, stack))(event(b"1"))
    await replica.until(1)


async def test_what_else_a_release_sets_of_its_consumer_is_changed(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    await make_consumer(
        lab, filter_subjects=[f"events.{SIGNED_UP}", REPLAYS], ack_wait=77, max_ack_pending=5
    )
    await stack.enter_async_context(Replica(lab))
    made = await consumer(lab)
    assert (made.ack_wait, made.max_ack_pending) == (2.0, 1000)


async def test_a_consumer_of_one_replica_has_the_types_of_this_replica_alone(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    await stack.enter_async_context(Replica(lab, types=BOTH, mode="every_replica"))
    older = await stack.enter_async_context(Replica(lab, mode="every_replica"))
    publish = await publisher(lab, stack)
    await publish(event(b"1", id_="1", type_=OPENED))
    await publish(event(b"2", id_="2"))
    await older.until(1)
    assert older.bodies == [b"2"]


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ([["events.a"], ["events.b", "events.a"]], ["events.a", "events.b"]),
        ([["events.>"], ["events.a.b"]], ["events.>"]),
        ([["events.*"], ["events.a", "events.a.b"]], ["events.*", "events.a.b"]),
        ([["events.a.*"], ["events.a.>"]], ["events.a.>"]),
        ([["events.a.>"], ["events.a"]], ["events.a", "events.a.>"]),
        ([[">"], ["events.>", "replay.x.>"]], [">"]),
        ([[], ["events.a"]], ["events.a"]),
    ],
)
def test_a_filter_that_another_one_covers_is_left_out(
    filters: list[list[str]], left: list[str]
) -> None:
    assert united(*filters) == left

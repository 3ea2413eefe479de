"""A service with its defaults meets a dependency that is down; the same on every bus."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service
from chassis.bus import DeadLetter, Subscription, Verdict
from chassis.contracts.event_types import to_event
from chassis.inbox.memory import MemoryInbox
from chassis.replica.assemble import consumer_of, metrics_of
from chassis.settings import load
from chassis.telemetry.traces import NoTraces
from tests.chassis.bus_labs import LABS, Lab
from tests.waiting import PATIENCE, eventually

IDS = [f"e-{number}" for number in range(200)]


@pytest.fixture(params=LABS)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with LABS[request.param](tmp_path) as lab:
        yield lab


async def test_a_dependency_that_is_down_for_a_while_sends_nothing_to_the_dead_letters(
    lab: Lab,
) -> None:
    service = Service("billing-svc", version="1.2.3")
    is_up = asyncio.Event()
    probes: list[str] = []
    attempts: dict[str, int] = {}

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        if not is_up.is_set():
            probes.append(ctx.event_id)
            raise OSError("the mail server is down")
        attempts[ctx.event_id] = ctx.attempt

    settings = load({}, max_attempts=2, backoff_seconds=0.05)
    metrics = metrics_of(service)
    bus, publisher = lab.bus("billing-svc"), lab.bus("shop")
    consumer = consumer_of(
        service, settings, bus, MemoryInbox(60.0, 3600.0), metrics=metrics, traces=NoTraces()
    )
    bus.subscribe(
        Subscription("billing-svc", service.registry.types, settings.prefetch), consumer.on_delivery
    )
    consumer.start()

    def paused() -> bool:
        return (
            metrics.registry.get_sample_value("chassis_consumer_paused", {"reason": "failures"})
            == 1
        )

    try:
        for one in (bus, publisher):
            await one.start()
            await asyncio.wait_for(one.wait_ready(), PATIENCE)
        for id_ in IDS:
            await publisher.publish(to_event(UserSignedUp(user_id=id_), source="shop", id_=id_))
        await eventually(paused)
        before_probing = len(probes)
        await eventually(lambda: len(probes) > before_probing and paused())
        assert consumer.consuming
        is_up.set()
        await eventually(lambda: len(attempts) == len(IDS))
        await eventually(lambda: bus.consuming and not paused())
        assert sum(attempt - 1 for attempt in attempts.values()) < 20
        letters: list[DeadLetter] = []

        async def keep(letter: DeadLetter) -> Verdict:
            letters.append(letter)
            return Verdict.KEEP

        await publisher.sweep("billing-svc", keep)
        assert letters == []
    finally:
        await consumer.drain(PATIENCE)
        await bus.close()
        await publisher.close()

"""One replica leads at a time: on every store, and by the clock alone where no store is needed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from chassis import Lead, Service
from chassis.context import Held
from chassis.inbox import Inbox, InboxUnavailable, Lease
from chassis.inbox.memory import MemoryInbox
from chassis.registration import RegistrationError
from chassis.schedule.leader import STOP_AT, Body, Leader, Leadership
from chassis.telemetry.leaders import LeaderMetrics
from chassis.testing import Harness
from tests.brokers.nats import nats
from tests.chassis.inbox_labs import LABS, Lab
from tests.clock import jumping
from tests.waiting import PATIENCE, PATIENCE_WITH_PROCESSES, eventually

TERM = 2.0
"""Seconds of a lease: a replica that says nothing is soon over."""


class Stage:
    """Where bodies lead: it notes who is on, and with which fence."""

    def __init__(self) -> None:
        self.on: list[str] = []
        self.fences: list[int] = []
        self.most_at_once = 0

    def body(self, replica: str) -> Body:
        async def lead(lead: Lead) -> None:
            self.on.append(replica)
            self.fences.append(lead.fence)
            self.most_at_once = max(self.most_at_once, len(self.on))
            try:
                await asyncio.Event().wait()
            finally:
                self.on.remove(replica)

        return lead


def leadership(
    name: str,
    body: Body,
    inbox: Inbox,
    seconds: float = TERM,
    registry: CollectorRegistry | None = None,
) -> Leadership:
    return Leadership(
        Leader(name, body),
        "billing-svc",
        inbox,
        seconds=seconds,
        held=Held(),
        metrics=LeaderMetrics(registry or CollectorRegistry()),
        clock=asyncio.get_running_loop().time,
    )


@pytest.fixture(scope="module", params=list(LABS))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with LABS[request.param](tmp_path_factory.mktemp(request.param)) as lab:
        yield lab


@pytest.fixture
async def replica(lab: Lab) -> AsyncIterator[Callable[[], Awaitable[Inbox]]]:
    """Gives the inbox of one more replica."""
    async with AsyncExitStack() as stack:

        async def one() -> Inbox:
            inbox = lab.inbox(TERM, 60)
            stack.push_async_callback(inbox.close)
            await inbox.open()
            return inbox

        yield one


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_one_leads_and_hands_over_when_it_drains(
    replica: Callable[[], Awaitable[Inbox]],
) -> None:
    stage, name = Stage(), uuid4().hex
    tasks = {
        who: asyncio.create_task(leadership(name, stage.body(who), await replica()).run())
        for who in ("a", "b", "c")
    }
    async with asyncio.timeout(PATIENCE):
        for left in (2, 1, 0):
            await eventually(lambda: len(stage.on) == 1)
            await ended(tasks.pop(stage.on[0]))
            assert len(tasks) == left
    assert stage.most_at_once == 1
    assert stage.fences == sorted(set(stage.fences))
    assert len(stage.fences) == 3


class Stopped:
    """An inbox whose extensions get no answer."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def __getattr__(self, name: str) -> object:
        return getattr(self._inbox, name)

    async def extend(self, lease: Lease) -> Lease:
        raise InboxUnavailable("away")

    async def release(self, lease: Lease) -> None:
        raise InboxUnavailable("away")


async def test_without_its_store_a_leader_ends_before_another_begins(
    replica: Callable[[], Awaitable[Inbox]],
) -> None:
    stage, name = Stage(), uuid4().hex
    first = Stopped(await replica())
    cut_off = asyncio.create_task(leadership(name, stage.body("cut off"), first).run())  # type: ignore[arg-type]
    await eventually(lambda: stage.on == ["cut off"])
    other = asyncio.create_task(leadership(name, stage.body("other"), await replica()).run())
    await eventually(lambda: stage.on == ["other"])
    await ended(cut_off)
    await ended(other)
    assert stage.most_at_once == 1
    assert stage.fences[-1] > stage.fences[0]


LEADS = """
import asyncio, sys
from prometheus_client import CollectorRegistry
from chassis.context import Held
from chassis.inbox.nats_kv import NatsKvInbox
from chassis.schedule.leader import Leader, Leadership
from chassis.telemetry.leaders import LeaderMetrics

async def body(lead):
    print("leads", lead.fence, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("ends", lead.fence, flush=True)

async def main():
    inbox = NatsKvInbox(sys.argv[1], lease_seconds=2.0, retention_seconds=60.0)
    await inbox.open()
    metrics = LeaderMetrics(CollectorRegistry())
    await Leadership(
        Leader("compactor", body), "billing-svc", inbox, seconds=2.0, held=Held(), metrics=metrics
    ).run()

asyncio.run(main())
"""


class Replica:
    """A process that wants to lead, and the lines that it has written."""

    def __init__(self, url: str, out: Path) -> None:
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEADS, url], stdout=out.open("wb"), stderr=subprocess.STDOUT
        )

    @property
    def lines(self) -> list[list[str]]:
        """Its words, without the lines of the log."""
        written = [line.split() for line in self.out.read_text().splitlines()]
        return [words for words in written if words[:1] in (["leads"], ["ends"])]


async def test_a_frozen_leader_is_followed_and_ends_when_it_wakes(tmp_path: Path) -> None:
    with nats(tmp_path) as server:
        frozen = Replica(server.url, tmp_path / "frozen")
        try:
            await eventually(lambda: len(frozen.lines) == 1, PATIENCE_WITH_PROCESSES)
            other = Replica(server.url, tmp_path / "other")
            try:
                os.kill(frozen.process.pid, signal.SIGSTOP)
                await eventually(lambda: len(other.lines) == 1, PATIENCE_WITH_PROCESSES)
                assert len(frozen.lines) == 1  # two lead now, and one does not know
                os.kill(frozen.process.pid, signal.SIGCONT)
                await eventually(lambda: len(frozen.lines) == 2, PATIENCE_WITH_PROCESSES)
            finally:
                other.process.kill()
                other.process.wait()
        finally:
            frozen.process.kill()
            frozen.process.wait()
    (leads, first), (ends, same) = frozen.lines
    assert (leads, ends, first) == ("leads", "ends", same)
    assert int(other.lines[0][1]) > int(first)


@jumping
async def test_the_lease_is_extended_for_as_long_as_the_body_runs() -> None:
    stage = Stage()
    inbox = MemoryInbox(30, 60, clock=asyncio.get_running_loop().time)
    leading = asyncio.create_task(leadership("compactor", stage.body("a"), inbox, 30).run())
    other = asyncio.create_task(leadership("compactor", stage.body("b"), inbox, 30).run())
    await asyncio.sleep(3600)
    assert stage.on == ["a"]
    assert len(stage.fences) == 1
    await ended(leading)
    await ended(other)


@jumping
async def test_the_body_is_cancelled_while_a_part_of_the_lease_is_left() -> None:
    loop = asyncio.get_running_loop()
    ends: list[float] = []

    async def body(lead: Lead) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(loop.time())

    inbox = Stopped(MemoryInbox(30, 60, clock=loop.time))
    leading = asyncio.create_task(leadership("compactor", body, inbox, 30).run())  # type: ignore[arg-type]
    await asyncio.sleep(29)
    assert ends == [pytest.approx(30 * STOP_AT)]
    await ended(leading)


@jumping
async def test_a_body_that_raises_is_counted_told_and_begun_again() -> None:
    begun = 0
    registry = CollectorRegistry()

    async def body(lead: Lead) -> None:
        nonlocal begun
        begun += 1
        raise ValueError("no")

    inbox = MemoryInbox(30, 60, clock=asyncio.get_running_loop().time)
    with capture_logs() as lines:
        leading = asyncio.create_task(leadership("compactor", body, inbox, 30, registry).run())
        await asyncio.sleep(600)
    await ended(leading)
    assert 5 < begun < 100
    assert (
        registry.get_sample_value("chassis_leader_failures_total", {"leader": "compactor"}) == begun
    )
    assert registry.get_sample_value("chassis_leading", {"leader": "compactor"}) == 0
    assert {
        "leader": "compactor",
        "event": "the leader has failed",
        "log_level": "error",
    }.items() <= (next(line for line in lines if line["log_level"] == "error").items())


@jumping
async def test_a_store_that_is_away_at_first_is_asked_again() -> None:
    stage = Stage()

    class Away(MemoryInbox):
        asked = 0

        async def claim(self, key: str, digest: str) -> object:  # type: ignore[override]
            self.asked += 1
            if self.asked < 5:
                raise InboxUnavailable("away")
            return await super().claim(key, digest)

    inbox = Away(30, 60, clock=asyncio.get_running_loop().time)
    leading = asyncio.create_task(leadership("compactor", stage.body("a"), inbox, 30).run())
    await asyncio.sleep(10)
    assert stage.on == ["a"]
    await ended(leading)


def test_a_leader_is_an_async_function_of_one_argument_with_a_name_of_its_own() -> None:
    service = Service("billing-svc", version="1")

    @service.leader("compactor")
    async def compact(lead: Lead) -> None: ...

    with pytest.raises(RegistrationError, match="already"):
        service.leader("compactor")(compact)
    with pytest.raises(RegistrationError, match="async def"):
        service.leader("other")(lambda _: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(RegistrationError, match="one argument"):

        @service.leader("third")
        async def none() -> None: ...  # type: ignore[arg-type]

    with pytest.raises(RegistrationError, match="name"):
        service.leader("")(compact)


async def test_the_harness_leads_within_a_block() -> None:
    service = Service("billing-svc", version="1")
    stage = Stage()
    service.leader("compactor")(stage.body("here"))
    async with Harness(service) as harness:
        async with harness.leading("compactor") as first:
            assert stage.on == ["here"]
        assert stage.on == []
        async with harness.leading("compactor") as second:
            assert second.fence > first.fence


async def test_the_harness_raises_what_a_leader_raises() -> None:
    service = Service("billing-svc", version="1")

    @service.leader("compactor")
    async def compact(lead: Lead) -> None:
        raise ValueError(lead.name)

    async with Harness(service) as harness:
        with pytest.raises(ValueError, match="compactor"):
            async with harness.leading("compactor"):
                pass

"""What a lifespan opens: entered before the first event, left after the last one, and typed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.event_types import to_event
from chassis.replica.process import run
from chassis.replica.resources import LifespanFailed
from chassis.settings import load
from chassis.testing import Harness
from tests.chassis.conftest import LogLines
from tests.waiting import PATIENCE, eventually

SETTINGS = load(
    {"CHASSIS_BUS_URL": "memory://", "CHASSIS_HTTP_HOST": "127.0.0.1", "CHASSIS_HTTP_PORT": "0"}
)


@dataclass
class Clients:
    payments: str


class Steps(list[str]):
    """What happened, in order, to the service `billing-svc`."""

    def __init__(self, enter: asyncio.Event | None = None) -> None:
        super().__init__()
        self._enter = enter

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Clients]:
        self.append("enter")
        try:
            if self._enter is not None:
                await self._enter.wait()
            async with asyncio.timeout(PATIENCE):  # must be left in the task that entered it
                yield Clients("open")
        finally:
            self.append("leave")


def billing(
    steps: Steps, lifespan: Callable[[], AbstractAsyncContextManager[Clients]] | None = None
) -> Service[Clients]:
    service = Service("billing-svc", lifespan=lifespan or steps.lifespan)

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context[Clients]) -> None:
        steps.append(f"handle with {ctx.resources.payments}")

    return service


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    broker = MemoryBroker()
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: MemoryBus(broker))
    return broker


async def test_resources_are_entered_before_the_bus_starts_and_left_after_the_drain(
    broker: MemoryBroker, log_lines: LogLines
) -> None:
    steps = Steps()
    service = billing(steps)
    bus = MemoryBus(broker)
    for event_id in ("e-1", "e-2"):
        await bus.publish(to_event(UserSignedUp(), source="shop", id_=event_id))
    running = asyncio.create_task(run(service, SETTINGS))
    await eventually(lambda: broker.queues.get("billing-svc") is not None)
    await bus.publish(to_event(UserSignedUp(), source="shop", id_="e-3"))
    await eventually(lambda: "handle with open" in steps)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, PATIENCE)
    assert steps == ["enter", "handle with open", "leave"]
    assert service.held.resources is None
    said = [line["event"] for line in log_lines()]
    assert said.index("drained") < said.index("stopped")


async def test_a_lifespan_that_fails_ends_the_start_with_its_error(
    broker: MemoryBroker, log_lines: LogLines
) -> None:
    steps = Steps()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Clients]:
        raise OSError("no route to payments")
        yield Clients("never")

    with pytest.raises(
        LifespanFailed, match=r"lifespan of billing-svc failed .*: OSError: no route to payments"
    ):
        await run(billing(steps, lifespan), SETTINGS)
    assert broker.queues == {}, "the bus was started"
    [line] = [one for one in log_lines() if one["event"] == "the lifespan failed at the start"]
    assert "no route to payments" in str(line["exception"])


async def test_a_start_that_fails_half_way_leaves_the_resources(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(_: MemoryBus) -> None:
        raise RuntimeError("a bus that cannot start")

    monkeypatch.setattr(MemoryBus, "start", start)
    steps = Steps()
    with pytest.raises(RuntimeError, match="a bus that cannot start"):
        await run(billing(steps), SETTINGS)
    assert steps == ["enter", "leave"]


async def test_a_lifespan_that_waits_does_not_keep_a_service_from_stopping(
    broker: MemoryBroker,
) -> None:
    steps = Steps(enter=asyncio.Event())
    running = asyncio.create_task(run(billing(steps), SETTINGS))
    await eventually(lambda: steps == ["enter"])
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, PATIENCE)
    assert steps == ["enter", "leave"]
    assert broker.queues == {}, "the bus was started"


async def test_a_lifespan_that_does_not_end_is_told_and_left_behind(
    broker: MemoryBroker, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.replica.resources.LEAVE_SECONDS", 0.01)
    steps = Steps()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Clients]:
        yield Clients("open")
        await asyncio.Event().wait()

    running = asyncio.create_task(run(billing(steps, lifespan), SETTINGS))
    await eventually(lambda: broker.queues.get("billing-svc") is not None)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, PATIENCE)
    said = [line["event"] for line in log_lines()]
    assert "the lifespan did not end in time and is cancelled" in said
    assert said[-1] == "stopped"


async def test_the_harness_enters_the_lifespan_or_takes_a_stand_in(log_lines: LogLines) -> None:
    steps = Steps()
    async with Harness(billing(steps)) as harness:
        assert await harness.send(UserSignedUp()) == "done"
    assert steps == ["enter", "handle with open", "leave"]
    async with Harness(billing(steps), resources=Clients("a stand-in")) as harness:
        assert await harness.send(UserSignedUp()) == "done"
    assert steps[3:] == ["handle with a stand-in"]


async def test_without_a_lifespan_there_are_no_resources() -> None:
    service = Service("billing-svc")
    seen: list[object] = []

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        seen.append(ctx.resources)

    async with Harness(service) as harness:
        assert await harness.send(UserSignedUp()) == "done"
    assert seen == [None]


TYPED = """
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty

from chassis import Context, Service

@dataclass
class Clients:
    payments: str

@asynccontextmanager
async def lifespan() -> AsyncIterator[Clients]:
    yield Clients("open")

service = Service("billing-svc", lifespan=lifespan)
bare = Service("shipping-svc")

@service.on(Empty)
async def typed(event: Empty, ctx: Context[Clients]) -> None:
    ctx.log.info(ctx.resources.payments)

@service.on(Empty)
async def plain(event: Empty, ctx: Context) -> None:
    ctx.log.info("needs no resources")
"""
WRONG_NAME = """
@service.on(Empty)
async def wrong(event: Empty, ctx: Context[Clients]) -> None:
    ctx.log.info(ctx.resources.payment)
"""
NOT_DECLARED = """
@service.on(Empty)
async def wrong(event: Empty, ctx: Context) -> None:
    ctx.log.info(ctx.resources.payments)
"""
OTHER_RESOURCES = """
@bare.on(Empty)
async def wrong(event: Empty, ctx: Context[Clients]) -> None: ...
"""


def test_a_wrong_name_of_a_resource_fails_the_types(tmp_path: Path) -> None:
    wrong = {"wrong_name": WRONG_NAME, "not_declared": NOT_DECLARED, "other": OTHER_RESOURCES}
    for name, further in {"right": "", **wrong}.items():
        (tmp_path / f"{name}.py").write_text(TYPED + further)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", tmp_path],
        env=os.environ | {"MYPYPATH": str(Path("template/chassis/src").absolute())},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = sorted(line for line in done.stdout.splitlines() if ": error:" in line)
    assert [Path(line.partition(":")[0]).stem for line in errors] == [
        "not_declared",
        "other",
        "wrong_name",
    ], done.stdout
    assert '"Clients" has no attribute "payment"; maybe "payments"?' in errors[2]

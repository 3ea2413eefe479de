"""A store that answers reads and refuses writes: one outage, however often it is asked."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.event_types import to_event
from chassis.inbox import Inbox, InboxUnavailable, Lease
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.inbox.redis import RedisInbox
from chassis.replica.process import run
from chassis.settings import load
from tests.brokers.cable import Cable
from tests.chassis.conftest import LogLines
from tests.chassis.inbox_labs import LABS, Lab, PostgresLab, RedisLab, postgres_lab, redis_lab
from tests.waiting import PATIENCE_WITH_PROCESSES, eventually

SETTINGS = load(
    {
        "CHASSIS_BUS_URL": "memory://",
        "CHASSIS_HTTP_HOST": "127.0.0.1",
        "CHASSIS_HTTP_PORT": "0",
        "CHASSIS_MAX_ATTEMPTS": "1",
    }
)
PROBES = 4
"""So often the store is asked in vain."""
WAYS = [
    ("nats-kv", "bucket full"),
    ("nats-kv-made-by-hand", "bucket full"),
    ("redis", "out of memory"),
    ("redis", "too few replicas"),
    ("redis", "demoted"),
    ("redis", "cannot save"),
    ("postgres", "demoted"),
    ("postgres", "disk full"),
]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}, {way[1]}")
def way(request: pytest.FixtureRequest) -> tuple[str, str]:
    store, reason = request.param
    return store, reason


@pytest.fixture
def lab(way: tuple[str, str], tmp_path: Path) -> Iterator[Lab]:
    with LABS[way[0]](tmp_path) as lab:
        yield lab


@pytest.fixture
async def inbox(lab: Lab) -> AsyncIterator[Inbox]:
    inbox = lab.inbox(60, 60)
    await inbox.open()
    yield inbox
    await inbox.close()


async def test_claims_and_probes_are_refused_with_the_reason_until_writes_work(
    lab: Lab, inbox: Inbox, way: tuple[str, str]
) -> None:
    await inbox.ping()
    async with lab.refusals[way[1]]():
        with pytest.raises(InboxUnavailable, match="refuses writes: "):
            await inbox.claim(uuid4().hex, "digest")
        with pytest.raises(InboxUnavailable, match="refuses writes: "):
            await inbox.ping()
    await _until_claimed(inbox)
    await inbox.ping()


class World:
    """A replica over `inbox` and a bus in memory; `probes` counts the ones that found no store."""

    def __init__(self, inbox: Inbox, log_lines: LogLines) -> None:
        self.broker = MemoryBroker()
        self.inbox = inbox
        self.handled: list[tuple[str, int]] = []
        self.probes = 0
        self.service = Service("billing-svc", version="1")
        self._log_lines = log_lines
        self._seen: list[dict[str, object]] = []
        self._ping = inbox.ping
        inbox.ping = self._counted  # type: ignore[method-assign] # the store tells nobody

        @self.service.on(UserSignedUp)
        async def open_account(event: UserSignedUp, ctx: Context) -> None:
            self.handled.append((ctx.event_id, ctx.attempt))

    async def _counted(self) -> None:
        try:
            await self._ping()
        except InboxUnavailable:
            self.probes += 1
            raise

    def logged(self, event: str) -> list[dict[str, object]]:
        self._seen += self._log_lines()
        return [line for line in self._seen if event in str(line["event"])]

    async def publish(self, *ids: str) -> None:
        for id_ in ids:
            await MemoryBus(self.broker).publish(
                to_event(UserSignedUp(user_id="ada"), source="shop", id_=id_)
            )

    async def ready(self) -> bool:
        port = self.logged("starting")[0]["http_port"]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/readyz") as answer,
        ):
            return answer.status == 200

    async def until_ready(self) -> None:
        """The relay may notice later than the consumer."""
        async with asyncio.timeout(PATIENCE_WITH_PROCESSES):
            while not await self.ready():
                await asyncio.sleep(0.05)


@pytest.fixture
async def world(
    inbox: Inbox, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    world = World(inbox, log_lines)
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: MemoryBus(world.broker))
    monkeypatch.setattr("chassis.adapters.open_inbox", lambda *_: inbox)
    running = asyncio.create_task(run(world.service, SETTINGS))
    await eventually(lambda: bool(world.logged("ready")))
    yield world
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, PATIENCE_WITH_PROCESSES)


async def test_a_replica_pauses_once_handles_nothing_and_loses_nothing(
    world: World, lab: Lab, way: tuple[str, str]
) -> None:
    before, meanwhile = [f"a{n}" for n in range(5)], [f"b{n}" for n in range(50)]
    await world.publish(*before)
    await eventually(lambda: len(world.handled) == len(before))
    async with lab.refusals[way[1]]():
        await world.publish(*meanwhile)
        await eventually(lambda: world.probes == PROBES)
        assert not await world.ready()
        assert len(world.handled) == len(before)
        (pause,) = world.logged("the inbox store is not reachable, the consumer pauses")
        assert "refuses writes: " in str(pause["error"])
    await eventually(lambda: len(world.handled) == len(before + meanwhile))
    assert sorted(world.handled) == sorted((id_, 1) for id_ in before + meanwhile)
    await world.until_ready()
    assert len(world.logged("the consumer pauses")) == 1
    assert len(world.logged("the consumer resumes")) == 1
    assert not world.logged("dead letter")


Failover = Callable[[], AbstractAsyncContextManager[tuple[Inbox, Lab]]]


@pytest.fixture(params=["redis", "postgres"])
async def failover(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Failover]:
    """An open inbox at one of two servers; what the address leads to changes when it is demoted."""
    with ExitStack() as servers:
        folders = [tmp_path / "old", tmp_path / "new"]
        for folder in folders:
            folder.mkdir()
        make = {"redis": redis_lab, "postgres": postgres_lab}[request.param]
        old, new = (servers.enter_context(make(folder)) for folder in folders)
        assert isinstance(old, RedisLab | PostgresLab)
        assert isinstance(new, RedisLab | PostgresLab)
        cable = servers.enter_context(Cable(_port(old.url)).laid())
        adapter = {"redis": RedisInbox, "postgres": PostgresInbox}[request.param]
        inbox = adapter(cable.through(old.url), 60, 60, timeout=2.0)
        standby = new.inbox(60, 60)  # whose tables a replication would have made

        @asynccontextmanager
        async def demoted() -> AsyncIterator[tuple[Inbox, Lab]]:
            async with AsyncExitStack() as stack:
                for one in (standby, inbox):
                    stack.push_async_callback(one.close)
                    await one.open()
                await asyncio.gather(*(inbox.claim(uuid4().hex, "digest") for _ in range(50)))
                await stack.enter_async_context(old.refusals["demoted"]())
                cable.lead_to(_port(new.url))
                yield inbox, new

        yield demoted


async def test_no_connection_stays_with_a_demoted_server(failover: Failover) -> None:
    async with failover() as (inbox, primary):
        lease = await _until_claimed(inbox)
        await inbox.complete(lease)
        claims = [inbox.claim(uuid4().hex, "digest") for _ in range(50)]
        assert all(isinstance(claim, Lease) for claim in await asyncio.gather(*claims))
        assert lease.key in await primary.stored()


async def _until_claimed(inbox: Inbox) -> Lease:
    """Poll: a store tells nobody that it takes writes again."""
    async with asyncio.timeout(PATIENCE_WITH_PROCESSES):
        while True:
            try:
                claim = await inbox.claim(uuid4().hex, "digest")
            except InboxUnavailable:
                await asyncio.sleep(0.05)
            else:
                assert isinstance(claim, Lease)
                return claim


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port

"""`run` and `relay` as processes of their own, against real servers, and killed."""

import asyncio
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from nats import connect as connect_nats

from chassis.contracts.event_types import to_event
from chassis.inbox import Lease
from chassis.inbox.postgres.inbox import PostgresInbox
from tests.brokers.nats import Nats, nats
from tests.brokers.process import Server, free_port
from tests.chassis.postgres_lab import Database
from tests.waiting import PATIENCE

EVENTS = 3000

SERVICES = '''"""billing-svc has published; welcome-svc writes what it takes into the database."""

import sys

from acme.billing.v1.account_opened_pb2 import AccountOpened

from chassis import Context, Service
from chassis.cli import main

name = sys.argv.pop(1)
service = Service(name, version="1.2.3")

if name == "welcome-svc":

    @service.on(AccountOpened)
    async def welcome(event: AccountOpened, ctx: Context) -> None:
        connection = await ctx.transaction()
        await connection.execute("INSERT INTO effects VALUES (%s)", (event.account_id,))


main(service)
'''


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Nats]:
    with nats(tmp_path) as server:
        yield server


class Programs:
    """Starts services against the broker and the database of a test."""

    def __init__(self, folder: Path, contracts: Path, bus_url: str, inbox_url: str) -> None:
        self._folder = folder
        self._program = folder / "services.py"
        self._program.write_text(SERVICES)
        self._env = {
            "PYTHONPATH": str(contracts),
            "CHASSIS_BUS_URL": bus_url,
            "CHASSIS_INBOX_URL": inbox_url,
        }
        self._env |= {"CHASSIS_LOG_FORMAT": "json", "CHASSIS_HTTP_HOST": "127.0.0.1"}

    def start(self, stack: ExitStack, *command: str, **settings: str) -> Server:
        """A process, once it is ready; killed at the latest when `stack` ends."""
        port = str(free_port())
        env = (
            self._env
            | {f"CHASSIS_{name}": value for name, value in settings.items()}
            | {"CHASSIS_HTTP_PORT": port}
        )
        server = Server(
            [sys.executable, self._program, *command],
            ready=lambda: self._ready(port),
            log=self._folder / f"{'-'.join(command)}-{port}.log",
            env=env,
            cwd=self._folder,
        )
        stack.callback(server.kill)
        server.start()
        return server

    @staticmethod
    def _ready(port: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def programs(
    tmp_path: Path,
    generated_contracts: Path,
    broker: Nats,
    db: Database,
    postgres: tuple[str, Server],
) -> Programs:
    schema = db.url.rsplit("search_path=", 1)[1].rstrip("'")
    return Programs(
        tmp_path, generated_contracts, broker.url, f"{postgres[0]}?options=-csearch_path%3D{schema}"
    )


@pytest.fixture
async def outbox(db: Database) -> AsyncIterator[list[str]]:
    """Many events in the outbox; their ids."""
    inbox = PostgresInbox(db.url, 60.0, 3600.0)
    await inbox.open()
    ids = [f"e-{number}" for number in range(EVENTS)]
    for start in range(0, EVENTS, 100):
        lease = await inbox.claim(f"key {start}", "d")
        assert isinstance(lease, Lease)
        part = ids[start : start + 100]
        await inbox.complete_with(
            lease,
            [
                to_event(AccountOpened(account_id=id_), source="billing-svc", id_=id_)
                for id_ in part
            ],
        )
    yield ids
    await inbox.close()


async def published(broker: Nats, count: int) -> Counter[str]:
    """The ids in the stream, once there are `count` different ones."""
    async with await connect_nats(broker.url) as client:
        stream = client.jetstream()
        reader = await stream.subscribe("events.>", ordered_consumer=True)
        ids: Counter[str] = Counter()
        async with asyncio.timeout(PATIENCE):
            while len(ids) < count:
                message = await reader.next_msg(PATIENCE)
                ids[(message.headers or {})["ce-id"]] += 1
        return ids


async def test_a_relay_that_is_killed_again_and_again_loses_nothing_and_repeats_are_dropped(
    db: Database, programs: Programs, broker: Nats, outbox: list[str]
) -> None:
    with ExitStack() as stack:
        await asyncio.to_thread(programs.start, stack, "welcome-svc", "run")
        kills = 0
        left = EVENTS
        while left:
            relay = await asyncio.to_thread(programs.start, stack, "billing-svc", "relay")
            deadline = monotonic() + PATIENCE
            aim = max(0, left - EVENTS // 5)
            while (left := await db.waiting()) > aim:
                assert monotonic() < deadline, f"{left} events are still in the outbox"
            kills += left > 0
            relay.kill()
        assert kills >= 3
        await db.until("SELECT count(DISTINCT what) FROM effects", EVENTS)
        assert set(await published(broker, EVENTS)) == set(outbox)
    assert await db.effects() == sorted(outbox)


async def test_run_relays_by_itself_and_flushes_when_it_is_told_to_stop(
    db: Database, programs: Programs, broker: Nats, outbox: list[str]
) -> None:
    with ExitStack() as stack:
        service = await asyncio.to_thread(programs.start, stack, "billing-svc", "run")
        process = service._running()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0
    assert await db.waiting() == 0
    assert set(await published(broker, EVENTS)) == set(outbox)


async def test_run_leaves_the_outbox_alone_when_it_shall_not_relay(
    db: Database, programs: Programs, outbox: list[str]
) -> None:
    with ExitStack() as stack:
        service = await asyncio.to_thread(
            programs.start, stack, "billing-svc", "run", OUTBOX_RELAY="false"
        )
        process = service._running()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0
    assert await db.waiting() == EVENTS

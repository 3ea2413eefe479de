"""Requests in three copies each, while the process is killed and the broker goes away.

With PostgreSQL, a row and its event exist both or neither, and once. Without it, no answer 2xx
comes without a confirmed event. `make chaos` sends 5,000 requests, kills five times, and takes the
broker away for 20 seconds.
"""

import asyncio
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from nats import connect as connect_nats

from chassis.inbox.postgres.inbox import PostgresInbox
from tests.brokers.nats import Nats, nats
from tests.brokers.postgres import postgres_server
from tests.brokers.process import Server, free_port
from tests.chaos.world import LONG
from tests.chassis.postgres_lab import Database, database
from tests.waiting import PATIENCE

ORDERS = 5_000 if LONG else 200
KILLS = 5 if LONG else 2
AWAY_SECONDS = 20.0 if LONG else 1.0
COPIES = 3
AT_ONCE = 30

SERVICE = '''"""Opens an account for each request: with a row of its own, or with an event alone."""

import os

from acme.billing.v1.account_opened_pb2 import AccountOpened

from chassis import Service, Unavailable
from chassis.cli import main

service = Service("billing-svc", version="1.2.3")
STORED = os.environ["CHASSIS_INBOX_URL"].startswith("postgresql")


async def open_account(key: str) -> None:
    if not STORED:
        await service.publish(AccountOpened(account_id=key), id=key)
        return
    async with service.transaction(key=key) as tx:
        await tx.connection.execute("INSERT INTO effects VALUES (%s)", (key,))
        tx.publish(AccountOpened(account_id=key))


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    try:
        await open_account(dict(scope["headers"])[b"idempotency-key"].decode())
    except Unavailable:
        status = 503
    else:
        status = 202
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


service.mount(app)
main(service)
'''


class Caller:
    """Sends requests. `answered` has the keys that got a 2xx."""

    def __init__(self, url: str) -> None:
        self.answered: set[str] = set()
        self.done = 0
        self._url = url
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def order(self, session: aiohttp.ClientSession, number: int) -> None:
        """All copies at once. Those of odd orders try until they succeed, the others once."""
        async with self._slots:
            key = f"order-{number}"
            await asyncio.gather(
                *(self._copy(session, key, stubborn=number % 2 == 1) for _ in range(COPIES))
            )
            self.done += 1

    async def _copy(self, session: aiohttp.ClientSession, key: str, *, stubborn: bool) -> None:
        while True:
            try:
                async with session.post(self._url, headers={"Idempotency-Key": key}) as answer:
                    if answer.status == 202:
                        self.answered.add(key)
                        return
            except aiohttp.ClientError:  # the process is gone, and with it what it knew
                pass
            if not stubborn:
                return
            await asyncio.sleep(0.05)

    async def until(self, done: int) -> None:
        async with asyncio.timeout(PATIENCE + AWAY_SECONDS + ORDERS / 20):
            while self.done < done:
                await asyncio.sleep(0.01)


@pytest.fixture
def postgres_url(tmp_path: Path) -> Iterator[str]:
    with postgres_server(tmp_path) as (url, _):
        yield url


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Database]:
    async with database(postgres_url) as made:
        inbox = PostgresInbox(made.url, 60.0, 3600.0)
        await inbox.open()
        await inbox.close()
        yield made


def billing(folder: Path, contracts: Path, broker: Nats, inbox_url: str, api_port: int) -> Server:
    (folder / "service.py").write_text(SERVICE)
    port = free_port()

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    env = {
        "PYTHONPATH": str(contracts),
        "CHASSIS_BUS_URL": broker.url,
        "CHASSIS_INBOX_URL": inbox_url,
        "CHASSIS_HTTP_HOST": "127.0.0.1",
        "CHASSIS_HTTP_PORT": str(port),
        "CHASSIS_API_PORT": str(api_port),
    }
    command = [sys.executable, folder / "service.py", "run"]
    return Server(command, ready=ready, log=folder / "billing.log", env=env, cwd=folder)


async def under_fire(service: Server, broker: Nats, port: int) -> set[str]:
    """The keys that were answered with a 2xx."""
    caller = Caller(f"http://127.0.0.1:{port}/orders")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        sending = asyncio.gather(*(caller.order(session, number) for number in range(ORDERS)))
        for kill in range(1, KILLS + 1):
            await caller.until(kill * ORDERS // (KILLS + 2))
            await asyncio.to_thread(service.kill)
            await asyncio.to_thread(service.start)
        await caller.until((KILLS + 1) * ORDERS // (KILLS + 2))
        await asyncio.to_thread(broker.server.kill)
        await asyncio.sleep(AWAY_SECONDS)
        await asyncio.to_thread(broker.server.start)
        await caller.until(ORDERS)
        await sending
    return caller.answered


async def published(broker: Nats) -> dict[str, str]:
    """The account of each event in the stream, by the event's id."""
    async with await connect_nats(broker.url) as client:
        stream = client.jetstream()
        waiting = (await stream.stream_info("EVENTS")).state.messages
        reader = await stream.subscribe("events.>", ordered_consumer=True)
        found: dict[str, str] = {}
        for _ in range(waiting):
            message = await reader.next_msg(PATIENCE)
            account = AccountOpened.FromString(message.data).account_id
            found[(message.headers or {})["ce-id"]] = account
        return found


@pytest.mark.timeout(1800)
async def test_a_row_and_its_event_exist_both_or_neither_and_once(
    tmp_path: Path, generated_contracts: Path, db: Database, postgres_url: str
) -> None:
    schema = db.url.rsplit("search_path=", 1)[1].rstrip("'")
    url = f"{postgres_url}?options=-csearch_path%3D{schema}"
    port = free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(nats(tmp_path))
        service = billing(tmp_path, generated_contracts, broker, url, port)
        stack.callback(service.kill)
        service.start()
        answered = await under_fire(service, broker, port)
        await db.until("SELECT count(*) FROM chassis_outbox", 0)
        rows = await db.effects()
        events = await published(broker)
    assert Counter(rows).most_common(1)[0][1] == 1, "a repeated key wrote again"
    assert sorted(events.values()) == sorted(rows)
    assert answered <= set(rows)
    assert {f"order-{number}" for number in range(1, ORDERS, 2)} <= set(rows)


@pytest.mark.timeout(1800)
async def test_no_answer_2xx_comes_without_a_confirmed_event(
    tmp_path: Path, generated_contracts: Path
) -> None:
    port = free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(nats(tmp_path))
        service = billing(tmp_path, generated_contracts, broker, broker.url, port)
        stack.callback(service.kill)
        service.start()
        answered = await under_fire(service, broker, port)
        events = await published(broker)
    assert all(event_id == account for event_id, account in events.items())
    assert answered <= events.keys()
    assert {f"order-{number}" for number in range(1, ORDERS, 2)} <= answered

"""`processes`: what an operator sees and does, over a real store."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from acme.orders.v1.order_pb2 import OrderShipped, OrderState

from chassis.bus.memory import MemoryBroker
from chassis.cli import main
from chassis.contracts.event_types import to_event
from chassis.processes.redis import RedisProcesses
from chassis.processes.store import Address, Pending, Record, Wake, decoded
from tests.brokers.process import Server
from tests.brokers.redis import redis_server
from tests.chassis.cli.conftest import Said
from tests.chassis.processes.order_process import order_service

NOW = datetime.now(UTC).replace(microsecond=0)
RECORD = Record(
    Address("OrderState", "o-1"),
    instance="i-1",
    status="active",
    state_type="acme.orders.v1.OrderState",
    state=OrderState(order_id="o-1", amount=7).SerializeToString(),
    started=NOW - timedelta(hours=3),
    changed=NOW - timedelta(hours=2),
    last_event="acme.orders.v1.OrderPlaced",
)
YOUNG = replace(RECORD, address=Address("OrderState", "o-2"), changed=NOW)

Orders = Callable[..., Said]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


def stored(url: str, *records: Record) -> None:
    """The service's processes are `records`, and no others."""

    async def store() -> None:
        processes = RedisProcesses(url, "orders-svc", 3600)
        await processes._redis.flushdb()
        for record in records:
            await processes.save(record, 0)
        await processes.close()

    asyncio.run(store())


def found(url: str, key: str = "o-1") -> Record:
    async def load() -> Record:
        processes = RedisProcesses(url, "orders-svc", 3600)
        there = await processes.load(Address("OrderState", key))
        await processes.close()
        assert there is not None
        return decoded(there.body)

    return asyncio.run(load())


@pytest.fixture
def run(
    redis: str,
    broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Orders:
    """Runs a command line of orders-svc over Redis."""
    monkeypatch.setenv("CHASSIS_INBOX_URL", redis)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["orders-svc", "processes", *arguments])
        root = logging.getLogger()
        of_pytest, level = root.handlers, root.level
        try:
            with pytest.raises(SystemExit) as ended:
                main(order_service())
        finally:
            root.handlers = of_pytest
            root.setLevel(level)
            structlog.reset_defaults()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


def test_list_shows_what_is_idle_for_longer_than_asked(run: Orders, redis: str) -> None:
    stored(redis, RECORD, YOUNG)
    (row,) = run("list", "--older-than", "1h", "--json").out.splitlines()
    assert json.loads(row)["key"] == "o-1"
    assert run("list").out.endswith("\n2 processes\n")


def test_a_process_that_waits_for_a_wake_up_is_not_idle(run: Orders, redis: str) -> None:
    stored(redis, replace(RECORD, wakes={"late": Wake(1, NOW + timedelta(hours=1))}))
    assert run("list", "--older-than", "1h").out.endswith("0 processes\n")


def test_show_keeps_the_state_to_itself_unless_asked(run: Orders, redis: str) -> None:
    stored(redis, RECORD)
    assert "state" not in json.loads(run("show", "o-1", "--json").out)
    shown = json.loads(run("show", "o-1", "--json", "--state").out)
    assert shown["state"] == {"order_id": "o-1", "amount": 7}


def test_poke_publishes_what_is_left_and_overdue_under_the_same_ids(
    run: Orders, redis: str, broker: MemoryBroker
) -> None:
    left = to_event(OrderShipped(order_id="o-1"), source="orders-svc")
    overdue = {"late": Wake(1, NOW - timedelta(hours=1))}
    stored(redis, replace(RECORD, outgoing=(Pending("s", left),), wakes=overdue))
    assert run("poke", "o-1").out == "published 2\n"
    assert found(redis).outgoing == ()
    assert run("poke", "o-1").out == "published 1\n"


def test_abandon_ends_a_process_and_keeps_the_reason(run: Orders, redis: str) -> None:
    stored(redis, RECORD)
    assert run("abandon", "o-1", "--reason", "lost parcel", "--yes").out == "abandoned 1\n"
    record = found(redis)
    assert (record.status, record.reason) == ("abandoned", "lost parcel")
    again = run("abandon", "o-1", "--reason", "again", "--yes")
    assert again.code == 2
    assert "is abandoned already" in again.err


def test_a_key_that_no_process_has_is_one_line(run: Orders, redis: str) -> None:
    stored(redis)
    said = run("show", "o-9")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "orders-svc: no process has the key 'o-9': see `orders-svc processes list`\n"
    )


def test_a_new_database_has_no_processes(
    run: Orders, postgres: tuple[str, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHASSIS_INBOX_URL", postgres[0])
    said = run("list")
    assert said.out.endswith("0 processes\n"), said.err

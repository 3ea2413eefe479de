"""What is particular to the inbox in NATS: the bucket it shares, and one that it cannot use."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats import connect as connect_bare
from nats.js.api import KeyValueConfig

from chassis.inbox import InboxUnavailable, Lease, LeaseLost, Refusal, Refused
from chassis.inbox.nats_kv import NatsKvInbox
from tests.brokers.nats import Nats, nats

KEY = "0123456789abcdef"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Nats]:
    with nats(tmp_path) as broker:
        yield broker


def inbox_of(broker: Nats, retention: float = 60.0, **settings: float) -> NatsKvInbox:
    return NatsKvInbox(
        broker.url, lease_seconds=30, retention_seconds=retention, **{"timeout": 2.0} | settings
    )  # type: ignore[arg-type] # floats only


async def claimed(inbox: NatsKvInbox, key: str = KEY) -> Lease:
    lease = await inbox.claim(key, "digest")
    assert isinstance(lease, Lease)
    return lease


async def test_a_shared_bucket_keeps_the_longest_retention(broker: Nats) -> None:
    for retention in (60.0, 3600.0, 120.0):
        inbox = inbox_of(broker, retention)
        await inbox.open()
        await inbox.close()
    async with await connect_bare(broker.url) as bare:
        assert (await bare.jetstream().stream_info("KV_inbox")).config.max_age == 3600


async def test_a_bucket_that_keeps_a_history_is_refused_with_the_remedy(broker: Nats) -> None:
    async with await connect_bare(broker.url) as bare:
        await bare.jetstream().create_key_value(KeyValueConfig(bucket="inbox", history=5))
    inbox = inbox_of(broker)
    try:
        with pytest.raises(InboxUnavailable, match="choose another bucket"):
            await inbox.open()
    finally:
        await inbox.close()


async def test_a_server_that_is_too_old_is_refused_with_its_version(broker: Nats) -> None:
    inbox = inbox_of(broker)
    inbox._link._oldest = (99, 0)
    try:
        with pytest.raises(
            InboxUnavailable, match=r"the server is 2\.\d+\.\d+; at least 99\.0 is needed"
        ):
            await inbox.open()
    finally:
        await inbox.close()


async def test_a_bucket_that_was_deleted_is_made_again(broker: Nats) -> None:
    inbox = inbox_of(broker)
    await inbox.open()
    try:
        lease = await claimed(inbox)
        async with await connect_bare(broker.url) as bare:
            await bare.jetstream().delete_stream("KV_inbox")
        with pytest.raises((InboxUnavailable, LeaseLost)):
            await inbox.complete(lease)
        async with asyncio.timeout(20):
            while True:
                try:
                    await claimed(inbox)
                except InboxUnavailable:
                    await asyncio.sleep(0.05)
                else:
                    break
    finally:
        await inbox.close()


async def test_what_a_killed_server_confirmed_is_still_there_afterwards(broker: Nats) -> None:
    inbox = inbox_of(broker)
    await inbox.open()
    try:
        await inbox.complete(await claimed(inbox, "done"))
        lease = await claimed(inbox, "claimed")
        await asyncio.to_thread(broker.server.kill)
        with pytest.raises(InboxUnavailable):
            await inbox.extend(lease)
        await asyncio.to_thread(broker.server.start)
        async with asyncio.timeout(20):
            while not inbox._link.up:
                await asyncio.sleep(0.05)
        assert isinstance(await inbox.claim("done", "digest"), Refused)
        assert isinstance(await inbox.claim("claimed", "digest"), Refused)
        await inbox.complete(lease)
    finally:
        await inbox.close()


async def test_an_extension_whose_answer_was_lost_is_found_again(broker: Nats) -> None:
    inbox = inbox_of(broker)
    await inbox.open()
    try:
        lease = await claimed(inbox)
        lost = await inbox.extend(lease)
        found = await inbox.extend(lease)
        assert found.fence > lost.fence
        await inbox.extend(found)
        await inbox.complete(found)
        assert await inbox.claim(KEY, "digest") == Refused(Refusal.DUPLICATE)
    finally:
        await inbox.close()


async def test_a_lease_that_was_extended_without_an_answer_is_lost_to_whoever_took_over(
    broker: Nats,
) -> None:
    inbox = inbox_of(broker)
    await inbox.open()
    try:
        lease = await claimed(inbox)
        await inbox.release(await inbox.extend(lease))
        await claimed(inbox)
        for operation in (inbox.extend, inbox.complete):
            with pytest.raises(LeaseLost):
                await operation(lease)
    finally:
        await inbox.close()


async def test_many_claims_at_once_are_all_answered(broker: Nats) -> None:
    inbox = inbox_of(broker)
    await inbox.open()
    try:
        answers = await asyncio.gather(
            *(inbox.claim(f"key{number % 500}", "digest") for number in range(1500))
        )
        leases = [answer for answer in answers if isinstance(answer, Lease)]
        assert len(leases) == 500
        assert len({lease.fence for lease in leases}) == 500
        await asyncio.gather(*(inbox.complete(lease) for lease in leases))
    finally:
        await inbox.close()

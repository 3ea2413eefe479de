"""What only the Redis inbox does: batches, its script, and its warnings."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from chassis.inbox import InboxUnavailable, Lease, Refusal, Refused
from chassis.inbox.redis import RedisInbox
from tests.brokers.process import free_port
from tests.brokers.redis import redis_server, redis_with_sentinels
from tests.waiting import PATIENCE_WITH_PROCESSES


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url, decode_responses=True) as client:
        yield client
        await client.config_set("requirepass", "")
        await client.config_set("maxmemory", 0)
        await client.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
async def inbox(url: str) -> AsyncIterator[RedisInbox]:
    inbox = RedisInbox(url, lease_seconds=60, retention_seconds=60)
    await inbox.open()
    yield inbox
    await inbox.close()


async def test_operations_of_one_tick_share_a_round_trip(inbox: RedisInbox, admin: Redis) -> None:
    await _claimed(inbox)
    await admin.config_resetstat()
    leases = await asyncio.gather(*(_claimed(inbox) for _ in range(100)))
    await asyncio.gather(*(inbox.complete(lease) for lease in leases))
    assert (await admin.info("commandstats"))["cmdstat_evalsha"]["calls"] == 2


async def test_a_batch_bounds_how_long_the_server_is_kept_busy(
    inbox: RedisInbox, admin: Redis
) -> None:
    await _claimed(inbox)
    await admin.config_resetstat()
    await asyncio.gather(*(_claimed(inbox) for _ in range(1025)))
    assert (await admin.info("commandstats"))["cmdstat_evalsha"]["calls"] == 3


async def test_claims_of_the_same_key_in_one_batch_are_given_once(inbox: RedisInbox) -> None:
    answers = await asyncio.gather(*(inbox.claim("one key", "d1") for _ in range(10)))
    assert [type(answer) for answer in answers] == [Lease] + [Refused] * 9


async def test_a_server_that_forgot_the_script_is_told_again(
    inbox: RedisInbox, admin: Redis
) -> None:
    lease = await _claimed(inbox)
    await admin.script_flush()
    await inbox.complete(lease)
    await _claimed(inbox)


async def test_fences_go_on_growing_when_the_store_lost_everything(
    inbox: RedisInbox, admin: Redis
) -> None:
    key = uuid4().hex
    before = await inbox.claim(key, "d1")
    await admin.flushall()
    after = await inbox.claim(key, "d1")
    assert isinstance(before, Lease)
    assert isinstance(after, Lease)
    assert after.fence > before.fence


async def test_every_record_ends_by_itself(inbox: RedisInbox, admin: Redis) -> None:
    await admin.flushall()
    claimed, done = await _claimed(inbox), await _claimed(inbox)
    await inbox.complete(done)
    assert 0 < await admin.pttl(f"inbox:{claimed.key}") <= 60_000
    assert 0 < await admin.pttl(f"inbox:{done.key}") <= 60_000


async def test_a_store_that_may_evict_records_is_warned_about(url: str, admin: Redis) -> None:
    await admin.config_set("maxmemory", "100mb")
    await admin.config_set("maxmemory-policy", "volatile-lru")
    inbox = RedisInbox(url, 60, 60)
    with capture_logs() as logs:
        await inbox.open()
    await inbox.close()
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert "set maxmemory-policy to noeviction" in warning["event"]


async def test_a_store_that_cannot_evict_is_not_warned_about(url: str) -> None:
    inbox = RedisInbox(url, 60, 60)
    with capture_logs() as logs:
        await inbox.open()
    await inbox.close()
    assert logs == []


async def test_a_store_that_is_full_is_unavailable(inbox: RedisInbox, admin: Redis) -> None:
    await admin.config_set("maxmemory", 1)
    with pytest.raises(InboxUnavailable, match="maxmemory"):
        await inbox.claim(uuid4().hex, "d1")


async def test_a_wrong_password_is_unavailable_and_is_not_told(url: str, admin: Redis) -> None:
    await admin.config_set("requirepass", "right")
    inbox = RedisInbox(url.replace("redis://", "redis://:wr0ng@"), 60, 60)
    with pytest.raises(InboxUnavailable, match=r"Redis at 127\.0\.0\.1:\d+ failed") as caught:
        await inbox.open()
    await inbox.close()
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://:s3cret@host/0", "redis://:s3cret/x@host:6379/0"])
def test_a_url_that_is_none_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="redis://") as caught:
        RedisInbox(url, 60, 60)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


async def _claimed(inbox: RedisInbox) -> Lease:
    answer = await inbox.claim(uuid4().hex, "d1")
    assert isinstance(answer, Lease)
    return answer


async def test_after_a_failover_the_sentinels_lead_to_the_new_primary(tmp_path: Path) -> None:
    with redis_with_sentinels(tmp_path) as (url, primary):
        inbox = RedisInbox(url, lease_seconds=60, retention_seconds=60)
        await inbox.open()
        lease = await _claimed(inbox)
        await inbox.complete(lease)
        primary.kill()

        served = False
        async with asyncio.timeout(PATIENCE_WITH_PROCESSES):
            while not served:
                with suppress(InboxUnavailable):
                    await inbox.ping()
                    served = True

        assert await inbox.claim(lease.key, lease.digest) == Refused(Refusal.DUPLICATE, 0.0)
        await inbox.close()


async def test_a_primary_that_no_sentinel_knows_is_named_without_the_password(
    tmp_path: Path,
) -> None:
    url = f"redis+sentinel://svc:secret@127.0.0.1:{free_port()}/other"
    inbox = RedisInbox(url, lease_seconds=60, retention_seconds=60)
    with pytest.raises(InboxUnavailable, match=r"Redis at other of 127\.0\.0\.1") as failure:
        await inbox.open()
    assert "secret" not in str(failure.value)
    await inbox.close()

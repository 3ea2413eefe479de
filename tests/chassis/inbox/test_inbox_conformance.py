"""The promises of every inbox, against real stores. A new adapter is one entry in LABS."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from time import monotonic
from uuid import uuid4

import pytest

from chassis.inbox import (
    Inbox,
    InboxUnavailable,
    Lease,
    LeaseLost,
    Refusal,
    Refused,
    inbox_key,
    payload_digest,
)
from tests.brokers.process import Server
from tests.chassis.inbox_labs import LABS, Lab

LONG = 60.0
SHORT = 1.0
HELD = 3.0
"""Seconds of a lease that is soon over, and in which a busy machine gets something done."""
DIGEST = payload_digest(b"a payload")
OTHER_DIGEST = payload_digest(b"another payload")

Connect = Callable[..., Awaitable[Inbox]]


@pytest.fixture(scope="module", params=list(LABS))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with LABS[request.param](tmp_path_factory.mktemp(request.param)) as lab:
        yield lab


@pytest.fixture
def server(lab: Lab) -> Iterator[Server]:
    """The store's own process, for tests that stop it; running again afterwards."""
    if lab.server is None:
        pytest.skip("this store has no process that could go away")
    yield lab.server
    if not lab.server.alive:
        lab.server.start()
    lab.server.resume()


@pytest.fixture
async def connect(lab: Lab) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def connect(lease_seconds: float = LONG, retention_seconds: float = LONG) -> Inbox:
            inbox = lab.inbox(lease_seconds, retention_seconds)
            stack.push_async_callback(inbox.close)
            await inbox.open()
            return inbox

        yield connect


@pytest.fixture
def key() -> str:
    return _new_key()


async def test_a_claim_gives_a_lease_of_that_key_and_payload(connect: Connect, key: str) -> None:
    inbox = await connect()
    lease = await _claimed(inbox, key)
    assert (lease.key, lease.digest) == (key, DIGEST)


async def test_of_many_claims_at_once_exactly_one_is_given(connect: Connect, key: str) -> None:
    replicas = [await connect(), await connect()]
    answers = await asyncio.gather(*(replicas[i % 2].claim(key, DIGEST) for i in range(100)))
    assert len([answer for answer in answers if isinstance(answer, Lease)]) == 1
    assert {answer.refusal for answer in answers if isinstance(answer, Refused)} == {Refusal.BUSY}


async def test_a_claimed_key_is_busy_for_at_most_its_lease(connect: Connect, key: str) -> None:
    first, second = await connect(), await connect()
    await _claimed(first, key)
    refused = await second.claim(key, DIGEST)
    assert isinstance(refused, Refused)
    assert refused.refusal is Refusal.BUSY
    assert 0 < refused.retry_after <= LONG


async def test_a_completed_key_is_a_duplicate_for_everyone(connect: Connect, key: str) -> None:
    first, second = await connect(), await connect()
    await first.complete(await _claimed(first, key))
    assert await _refusal(first, key) is Refusal.DUPLICATE
    assert await _refusal(second, key) is Refusal.DUPLICATE


async def test_another_payload_under_a_claimed_key_is_a_mismatch(
    connect: Connect, key: str
) -> None:
    inbox = await connect()
    await _claimed(inbox, key)
    assert await _refusal(inbox, key, OTHER_DIGEST) is Refusal.MISMATCH


async def test_another_payload_under_a_completed_key_is_a_mismatch(
    connect: Connect, key: str
) -> None:
    inbox = await connect()
    await inbox.complete(await _claimed(inbox, key))
    assert await _refusal(inbox, key, OTHER_DIGEST) is Refusal.MISMATCH


async def test_a_lease_that_is_over_is_taken_over_with_a_higher_fence(
    connect: Connect, key: str
) -> None:
    first, second = await connect(SHORT), await connect(SHORT)
    lost = await _claimed(first, key)
    taken_over = await _claimed_in_the_end(second, key)
    assert taken_over.fence > lost.fence


async def test_an_extended_lease_outlives_its_first_term(connect: Connect, key: str) -> None:
    inbox, other = await connect(HELD), await connect(HELD)
    lease = await _claimed(inbox, key)
    never_extended = _new_key()
    await _claimed(inbox, never_extended)

    async def first_term_is_over() -> bool:
        nonlocal lease
        lease = await inbox.extend(lease)
        return isinstance(await other.claim(never_extended, DIGEST), Lease)

    await _until(first_term_is_over)
    assert await _refusal(other, key) is Refusal.BUSY
    await inbox.complete(lease)
    assert await _refusal(other, key) is Refusal.DUPLICATE


async def test_a_fence_that_was_taken_over_can_neither_extend_nor_complete(
    connect: Connect, key: str
) -> None:
    first, second = await connect(HELD), await connect(HELD)
    lost = await _claimed(first, key)
    holder = await _claimed_in_the_end(second, key)
    with pytest.raises(LeaseLost):
        await first.extend(lost)
    with pytest.raises(LeaseLost):
        await first.complete(lost)
    await second.complete(holder)


async def test_a_lease_that_is_over_is_lost_even_when_nobody_took_it_over(
    connect: Connect, key: str
) -> None:
    inbox = await connect(SHORT)
    lease = await _claimed(inbox, key)
    claimed_later = _new_key()
    await _claimed(inbox, claimed_later)
    await _claimed_in_the_end(inbox, claimed_later)
    with pytest.raises(LeaseLost):
        await inbox.complete(lease)
    with pytest.raises(LeaseLost):
        await inbox.extend(lease)
    await _claimed(inbox, key)


async def test_a_completed_lease_can_neither_be_completed_again_nor_extended(
    connect: Connect, key: str
) -> None:
    inbox = await connect()
    lease = await _claimed(inbox, key)
    await inbox.complete(lease)
    with pytest.raises(LeaseLost):
        await inbox.complete(lease)
    with pytest.raises(LeaseLost):
        await inbox.extend(lease)


async def test_a_released_key_can_be_claimed_at_once_with_a_higher_fence(
    connect: Connect, key: str
) -> None:
    first, second = await connect(), await connect()
    released = await _claimed(first, key)
    await first.release(released)
    assert (await _claimed(second, key)).fence > released.fence


async def test_a_released_key_forgets_its_payload(connect: Connect, key: str) -> None:
    inbox = await connect()
    await inbox.release(await _claimed(inbox, key))
    assert isinstance(await inbox.claim(key, OTHER_DIGEST), Lease)


async def test_releasing_a_lost_lease_leaves_the_holder_alone(connect: Connect, key: str) -> None:
    first, second = await connect(), await connect()
    lost = await _claimed(first, key)
    await first.release(lost)
    holder = await _claimed(second, key)
    await first.release(lost)
    assert await _refusal(first, key) is Refusal.BUSY
    await second.complete(holder)


async def test_releasing_a_completed_lease_leaves_it_done(connect: Connect, key: str) -> None:
    inbox = await connect()
    lease = await _claimed(inbox, key)
    await inbox.complete(lease)
    await inbox.release(lease)
    assert await _refusal(inbox, key) is Refusal.DUPLICATE


async def test_a_key_can_be_claimed_again_when_its_retention_is_over(
    connect: Connect, key: str
) -> None:
    inbox = await connect(LONG, SHORT)
    done = await _claimed(inbox, key)
    await inbox.complete(done)
    again = await _claimed_in_the_end(inbox, key)
    assert again.fence > done.fence


async def test_a_completed_key_outlives_the_lease_term(connect: Connect, key: str) -> None:
    inbox = await connect(HELD)
    lease = await _claimed(inbox, key)
    claimed_later = _new_key()
    await _claimed(inbox, claimed_later)
    await inbox.complete(lease)
    await _claimed_in_the_end(inbox, claimed_later)
    assert await _refusal(inbox, key) is Refusal.DUPLICATE


async def test_a_thousand_keys_at_once_are_claimed_and_completed_each_for_itself(
    connect: Connect,
) -> None:
    inbox = await connect()
    keys = [_new_key() for _ in range(1000)]
    leases = await asyncio.gather(*(_claimed(inbox, key) for key in keys))
    assert [lease.key for lease in leases] == keys
    await asyncio.gather(*(inbox.complete(lease) for lease in leases[::2]))
    await asyncio.gather(*(inbox.release(lease) for lease in leases[1::2]))
    answers = await asyncio.gather(*(inbox.claim(key, DIGEST) for key in keys))
    assert answers[::2] == [Refused(Refusal.DUPLICATE)] * 500
    assert all(isinstance(answer, Lease) for answer in answers[1::2])


async def test_a_claim_whose_caller_went_away_does_not_disturb_the_others(connect: Connect) -> None:
    inbox = await connect()
    keys = [_new_key() for _ in range(20)]
    claims = [asyncio.create_task(inbox.claim(key, DIGEST)) for key in keys]
    await asyncio.sleep(0)
    for claim in claims[::2]:
        claim.cancel()
    answers = await asyncio.gather(*claims, return_exceptions=True)
    assert all(isinstance(answer, Lease) for answer in answers[1::2])
    assert isinstance(await inbox.claim(_new_key(), DIGEST), Lease)


async def test_the_store_holds_neither_the_event_key_nor_the_payload(
    connect: Connect, lab: Lab
) -> None:
    inbox = await connect()
    key = inbox_key("billing-svc", "open_account", "jane@example.org")
    digest = payload_digest(b"iban DE02120300000000202051")
    await inbox.complete(await _claimed(inbox, key, digest))
    stored = await lab.stored()
    assert digest in stored
    for text in ("jane", "example.org", "billing-svc", "open_account", "iban", "DE0212"):
        assert text not in stored


async def test_ping_returns_while_the_store_answers(connect: Connect) -> None:
    inbox = await connect()
    await inbox.ping()


async def test_closing_twice_is_closing_once(connect: Connect) -> None:
    inbox = await connect()
    await inbox.close()
    await inbox.close()


async def test_opening_again_keeps_what_is_stored(connect: Connect, key: str) -> None:
    inbox = await connect()
    await inbox.complete(await _claimed(inbox, key))
    await inbox.open()
    assert await _refusal(inbox, key) is Refusal.DUPLICATE


async def test_without_its_store_every_operation_is_unavailable(
    connect: Connect, server: Server
) -> None:
    inbox = await connect()
    lease = await _claimed(inbox, _new_key())
    server.kill()
    async with asyncio.timeout(LONG):
        answers = await asyncio.gather(
            inbox.claim(_new_key(), DIGEST),
            inbox.extend(lease),
            inbox.complete(lease),
            inbox.release(lease),
            inbox.ping(),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [InboxUnavailable] * 5


async def test_a_store_that_is_back_works_again_by_itself_and_has_kept_everything(
    connect: Connect, server: Server
) -> None:
    inbox = await connect()
    done, claimed = _new_key(), _new_key()
    await inbox.complete(await _claimed(inbox, done))
    before = await _claimed(inbox, claimed)
    await asyncio.gather(*(inbox.claim(_new_key(), DIGEST) for _ in range(50)))
    server.kill()
    with pytest.raises(InboxUnavailable):
        await inbox.claim(_new_key(), DIGEST)
    server.start()
    await _until(lambda: _answers(inbox))
    assert await _refusal(inbox, done) is Refusal.DUPLICATE
    assert await _refusal(inbox, claimed) is Refusal.BUSY
    await inbox.complete(before)
    assert (await _claimed(inbox, _new_key())).fence > 0
    answers = await asyncio.gather(*(inbox.claim(_new_key(), DIGEST) for _ in range(50)))
    assert all(isinstance(answer, Lease) for answer in answers)


async def test_fences_go_on_growing_after_a_crash_of_the_store(
    connect: Connect, server: Server, key: str
) -> None:
    inbox = await connect()
    before = await _claimed(inbox, key)
    await inbox.release(before)
    server.kill()
    server.start()
    await _until(lambda: _answers(inbox))
    assert (await _claimed(inbox, key)).fence > before.fence


async def test_a_store_that_hangs_is_unavailable_and_works_again_afterwards(
    connect: Connect, server: Server
) -> None:
    inbox = await connect()
    await inbox.ping()
    server.suspend()
    async with asyncio.timeout(LONG):
        with pytest.raises(InboxUnavailable):
            await inbox.claim(_new_key(), DIGEST)
    server.resume()
    await _until(lambda: _answers(inbox))
    await _claimed(inbox, _new_key())


async def test_an_inbox_that_could_not_be_opened_can_be_opened_later(
    lab: Lab, server: Server
) -> None:
    inbox = lab.inbox(LONG, LONG)
    server.kill()
    try:
        async with asyncio.timeout(LONG):
            with pytest.raises(InboxUnavailable):
                await inbox.open()
        server.start()

        async def opens() -> bool:
            try:
                await inbox.open()
            except InboxUnavailable:
                return False
            return True

        await _until(opens)
        await _claimed(inbox, _new_key())
    finally:
        await inbox.close()


def _new_key() -> str:
    return inbox_key("billing-svc", "open_account", uuid4().hex)


async def _claimed(inbox: Inbox, key: str, digest: str = DIGEST) -> Lease:
    answer = await inbox.claim(key, digest)
    assert isinstance(answer, Lease)
    return answer


async def _refusal(inbox: Inbox, key: str, digest: str = DIGEST) -> Refusal:
    answer = await inbox.claim(key, digest)
    assert isinstance(answer, Refused)
    return answer.refusal


async def _claimed_in_the_end(inbox: Inbox, key: str) -> Lease:
    """The claim, as soon as what is stored under `key` is over."""
    answer = await inbox.claim(key, DIGEST)

    async def given() -> bool:
        nonlocal answer
        if isinstance(answer, Refused):
            answer = await inbox.claim(key, DIGEST)
        return isinstance(answer, Lease)

    await _until(given)
    assert isinstance(answer, Lease)
    return answer


async def _answers(inbox: Inbox) -> bool:
    try:
        await inbox.ping()
    except InboxUnavailable:
        return False
    return True


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Poll: a store tells nobody that a term is over."""
    deadline = monotonic() + seconds
    while not await condition():
        assert monotonic() < deadline, f"did not happen within {seconds:g} s"
        await asyncio.sleep(0.05)

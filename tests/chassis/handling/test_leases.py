"""Leases are kept alive while a handler runs, and never make a completion fail falsely."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.handling.leases import LeaseKeeper, Work
from chassis.inbox import InboxUnavailable, Lease, LeaseLost, Refusal, Refused
from chassis.inbox.unclaimed import Unclaimed
from tests.waiting import eventually

TERM = 60.0


class Store:
    """Extends a lease by a new fence once it may; a claim gives `claim_gives`, unless `away`."""

    def __init__(self) -> None:
        self.extended: list[Lease] = []
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()
        self.error: Exception | None = None
        self.claim_gives: Lease | Refused = Refused(Refusal.BUSY, 1.0)
        self.away: InboxUnavailable | None = None

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        assert (key, digest) == ("key", "digest")
        return self.claim_gives

    async def ping(self) -> None:
        if self.away is not None:
            raise self.away

    async def extend(self, lease: Lease) -> Lease:
        self.asked.set()
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        self.extended.append(lease)
        return Lease(lease.key, lease.digest, lease.fence + 1)


class Bench:
    """A keeper with a clock that moves by hand, and a task that stands for a handler at work."""

    def __init__(self, term: float = TERM) -> None:
        self.now = 1000.0
        self.store = Store()
        self.lost = 0
        self.away: list[InboxUnavailable] = []
        self.keeper = LeaseKeeper(self.store, term, self._count, self.away.append, lambda: self.now)  # type: ignore[arg-type]
        self.handler = asyncio.create_task(asyncio.Event().wait())

    def _count(self) -> None:
        self.lost += 1

    def hold_key(self) -> Work:
        return self.keeper.hold_key(
            self.handler,
            self.store,  # type: ignore[arg-type]
            Lease("key", "digest", 1),
            self.now,
        )

    def hold(self, fence: int = 1, *, beside: Work | None = None) -> Work:
        return self.keeper.hold(
            self.handler,
            self.store,  # type: ignore[arg-type]
            Lease("key", "digest", fence),
            self.now,
            beside=beside,
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.handler.cancel()
    await asyncio.wait([bench.handler])


async def test_a_lease_is_extended_once_less_than_two_thirds_are_left(bench: Bench) -> None:
    bench.hold()
    bench.now += TERM / 3
    await bench.keeper.extend_due()
    assert bench.store.extended == []
    bench.now += 0.001
    await bench.keeper.extend_due()
    assert len(bench.store.extended) == 1


async def test_an_extended_lease_holds_a_full_term_from_when_it_was_asked_for(bench: Bench) -> None:
    work = bench.hold()
    bench.now += TERM / 2
    await bench.keeper.extend_due()
    assert bench.keeper.seconds_left(work) == TERM
    assert work.lease.fence == 2


async def test_leases_are_extended_side_by_side(bench: Bench) -> None:
    works = [bench.hold(number) for number in range(3)]
    bench.now += TERM / 2
    await bench.keeper.extend_due()
    assert sorted(lease.fence for lease in bench.store.extended) == [0, 1, 2]
    assert [work.lease.fence for work in works] == [1, 2, 3]


async def test_a_lease_that_was_let_go_is_extended_no_more(bench: Bench) -> None:
    await bench.keeper.let_go(bench.hold())
    bench.now += TERM
    await bench.keeper.extend_due()
    assert bench.store.extended == []


async def test_letting_go_waits_for_an_extension_under_way_and_gives_its_fence(
    bench: Bench,
) -> None:
    work = bench.hold()
    bench.now += TERM / 2
    bench.store.answer.clear()
    extending = asyncio.create_task(bench.keeper.extend_due())
    await bench.store.asked.wait()
    letting_go = asyncio.create_task(bench.keeper.let_go(work))
    await asyncio.sleep(0)
    assert not letting_go.done()
    bench.store.answer.set()
    await extending
    assert (await letting_go).fence == 2


async def test_a_lost_lease_is_counted_and_cancels_the_handler(bench: Bench) -> None:
    work = bench.hold()
    bench.now += TERM / 2
    bench.store.error = LeaseLost("taken over")
    await bench.keeper.extend_due()
    assert (bench.lost, work.lost) == (1, True)
    with pytest.raises(asyncio.CancelledError):
        await bench.handler
    with pytest.raises(LeaseLost):
        await bench.keeper.let_go(work)


async def test_a_lease_lost_while_it_is_let_go_does_not_cancel_what_completes_it(
    bench: Bench,
) -> None:
    work = bench.hold()
    bench.now += TERM / 2
    bench.store.error = LeaseLost("taken over")
    bench.store.answer.clear()
    extending = asyncio.create_task(bench.keeper.extend_due())
    await bench.store.asked.wait()
    letting_go = asyncio.create_task(bench.keeper.let_go(work))
    await asyncio.sleep(0)
    bench.store.answer.set()
    await extending
    with pytest.raises(LeaseLost):
        await letting_go
    assert bench.handler.cancelling() == 0
    assert bench.lost == 1


async def test_while_the_store_is_away_a_lease_lives_to_its_end_and_no_longer(bench: Bench) -> None:
    work = bench.hold()
    bench.store.error = InboxUnavailable("away")
    bench.now += TERM - 0.001
    await bench.keeper.extend_due()
    assert not work.lost
    bench.now += 0.001
    await bench.keeper.extend_due()
    assert work.lost


async def test_a_defect_in_one_extension_leaves_the_others_alive(bench: Bench) -> None:
    work = bench.hold()
    bench.now += TERM / 2
    bench.store.error = RuntimeError("a defect")
    await bench.keeper.extend_due()
    bench.store.error = None
    await bench.keeper.extend_due()
    assert (work.lost, work.lease.fence) == (False, 2)


async def test_a_lease_that_is_over_although_its_handler_has_returned_is_claimed_again(
    bench: Bench,
) -> None:
    work = bench.hold()
    bench.keeper.returned(work)
    bench.store.error = InboxUnavailable("away")
    bench.now += 2 * TERM
    await bench.keeper.extend_due()
    assert not work.lost
    bench.store.error = LeaseLost("it was over")
    bench.store.claim_gives = Lease("key", "digest", 7)
    await bench.keeper.extend_due()
    assert (work.lost, work.lease.fence, bench.keeper.seconds_left(work), bench.lost) == (
        False,
        7,
        TERM,
        1,
    )


async def test_a_lease_that_somebody_else_has_now_is_lost_also_when_the_handler_has_returned(
    bench: Bench,
) -> None:
    work = bench.hold()
    bench.keeper.returned(work)
    bench.now += TERM
    bench.store.error = LeaseLost("taken over")
    await bench.keeper.extend_due()
    assert (work.lost, bench.lost, bench.handler.cancelling()) == (True, 1, 0)


async def test_a_key_of_an_order_is_not_claimed_again_beside_what_may_have_passed_it(
    bench: Bench,
) -> None:
    key = bench.hold_key()
    event = bench.hold(2, beside=key)
    bench.keeper.returned(event)
    await bench.keeper.let_go(event)
    bench.now += TERM
    bench.store.error = LeaseLost("it was over")
    bench.store.claim_gives = Lease("key", "digest", 7)
    await bench.keeper.extend_due()
    assert (key.lost, bench.handler.cancelling()) == (True, 0)


async def test_a_handler_is_cancelled_that_begins_after_its_key_was_lost(bench: Bench) -> None:
    key = bench.hold_key()
    bench.now += TERM
    bench.store.error = LeaseLost("it was over")
    await bench.keeper.extend_due()
    assert bench.handler.cancelling() == 0, "no handler was at work"
    bench.hold(2, beside=key)
    assert (key.lost, bench.handler.cancelling()) == (True, 1)


async def test_a_lease_is_counted_as_lost_once(bench: Bench) -> None:
    work = bench.hold()
    bench.keeper.lose(work)
    bench.keeper.lose(work)
    assert (work.lost, bench.lost, bench.handler.cancelling()) == (True, 1, 1)


async def test_a_claim_that_no_store_gave_is_never_extended(bench: Bench) -> None:
    bench.keeper.hold(bench.handler, Unclaimed(), Lease("key", "digest", 1), bench.now)
    bench.now += TERM
    await bench.keeper.extend_due()
    assert bench.store.extended == []


@pytest.mark.parametrize("holds", [True, False])
async def test_a_store_that_is_away_is_told_of_whether_or_not_anything_is_held(holds: bool) -> None:
    bench = Bench(term=0.01)
    bench.store.away = bench.store.error = InboxUnavailable("away")
    if holds:
        bench.hold()
        bench.now += 1
    keeping = asyncio.create_task(bench.keeper.run())
    await eventually(lambda: bench.store.away in bench.away)
    keeping.cancel()
    bench.handler.cancel()
    await asyncio.wait([keeping, bench.handler])

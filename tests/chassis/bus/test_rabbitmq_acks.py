"""Which delivery tags go into which acknowledgement."""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import cast

from aiormq.abc import AbstractChannel
from hypothesis import given
from hypothesis import strategies as st

from chassis.bus import NoBusMetrics
from chassis.bus.rabbitmq.acks import Ack, Acknowledger, AckTracker


def _tracker(*done: int) -> AckTracker:
    tracker = AckTracker()
    for tag in done:
        tracker.done(tag)
    return tracker


def test_a_contiguous_run_is_one_frame() -> None:
    assert _tracker(2, 1, 3).take() == [Ack(3, multiple=True, deliveries=3)]


def test_nothing_done_is_no_frame() -> None:
    assert _tracker().take() == []


def test_the_run_stops_before_what_is_unsettled() -> None:
    tracker = _tracker(1, 2, 4)
    assert tracker.take() == [Ack(2, multiple=True, deliveries=2)]
    assert tracker.waiting
    tracker.done(3)
    assert tracker.take() == [Ack(4, multiple=True, deliveries=2)]
    assert not tracker.waiting


def test_what_overtook_a_slow_delivery_is_acknowledged_alone_one_flush_later() -> None:
    tracker = _tracker(2, 3)
    assert tracker.take() == []
    tracker.done(4)
    assert tracker.take() == [
        Ack(2, multiple=False, deliveries=1),
        Ack(3, multiple=False, deliveries=1),
    ]
    tracker.done(1)
    assert tracker.take() == [Ack(4, multiple=True, deliveries=2)]
    tracker.done(5)
    assert tracker.take() == [Ack(5, multiple=True, deliveries=1)]


def test_a_run_passes_over_what_was_given_back_but_never_names_it() -> None:
    tracker = _tracker(1, 3)
    tracker.settled_otherwise(2)
    tracker.settled_otherwise(4)
    assert tracker.take() == [Ack(3, multiple=True, deliveries=2)]
    tracker.settled_otherwise(5)
    assert tracker.take() == []


def test_at_the_end_nothing_is_left_waiting() -> None:
    tracker = _tracker(1, 3, 5)
    assert [ack.tag for ack in tracker.take(all_of_them=True)] == [1, 3, 5]
    assert not tracker.waiting


@given(st.permutations(range(1, 21)), st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20)))
def test_each_done_delivery_is_acknowledged_once_and_no_other(
    order: list[int], returned: set[int], flush_after: set[int]
) -> None:
    tracker, outstanding, acknowledged = AckTracker(), set(range(1, 21)), set()
    settled: set[int] = set()

    def write(acks: list[Ack]) -> None:
        for ack in acks:
            covered = {tag for tag in outstanding if tag <= ack.tag} if ack.multiple else {ack.tag}
            assert ack.tag in outstanding, "RabbitMQ closes the channel on an unknown tag"
            assert covered <= settled - returned
            assert len(covered) == ack.deliveries
            outstanding.difference_update(covered)
            acknowledged.update(covered)

    for tag in order:
        settled.add(tag)
        if tag in returned:
            outstanding.discard(tag)
            tracker.settled_otherwise(tag)
        else:
            tracker.done(tag)
        if tag in flush_after:
            write(tracker.take())
    write(tracker.take(all_of_them=True))
    assert acknowledged == set(range(1, 21)) - returned


class _Channel:
    """A channel that settles as RabbitMQ does.

    An unknown tag is an error, `multiple` takes all up to the tag.
    """

    is_closed = False

    def __init__(self, deliveries: int) -> None:
        self.outstanding = set(range(1, deliveries + 1))
        self.acknowledged: list[int] = []
        self.returned: list[int] = []

    async def basic_ack(self, tag: int, *, multiple: bool, wait: bool) -> None:
        await self._settle(tag, self.acknowledged, multiple=multiple)

    async def basic_nack(
        self, tag: int, *, multiple: bool = False, requeue: bool, wait: bool = True
    ) -> None:
        await self._settle(tag, self.returned, multiple=multiple)

    async def _settle(self, tag: int, into: list[int], *, multiple: bool) -> None:
        assert tag in self.outstanding or (multiple and tag == 0)
        settled = (
            {one for one in self.outstanding if tag in {0, one} or one < tag} if multiple else {tag}
        )
        self.outstanding -= settled
        into.extend(sorted(settled))
        await asyncio.sleep(0)  # a busy connection: others come in between


async def _settled(
    order: Sequence[int], returned: AbstractSet[int], pause_after: AbstractSet[int]
) -> _Channel:
    """The fate of deliveries, done or given back in this order before the channel closes."""
    channel = _Channel(len(order))
    acknowledger = Acknowledger(cast(AbstractChannel, channel), prefetch=4, metrics=NoBusMetrics())
    for tag in order:
        (acknowledger.hand_back if tag in returned else acknowledger.done)(tag)
        if tag in pause_after:
            await asyncio.sleep(0)
    await acknowledger.close()
    return channel


async def test_what_is_given_back_is_not_acknowledged_with_what_is_done_beside_it() -> None:
    channel = await _settled([1, 2], returned={1}, pause_after=set())
    assert (channel.acknowledged, channel.returned) == ([2], [1])


@given(st.permutations(range(1, 21)), st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20)))
def test_every_delivery_is_settled_as_it_ended(
    order: list[int], returned: set[int], pause_after: set[int]
) -> None:
    channel = asyncio.run(_settled(order, returned, pause_after))
    assert sorted(channel.acknowledged) == sorted(set(order) - returned)
    assert channel.returned == [tag for tag in order if tag in returned], (
        "in the order in which they were given back"
    )
    assert not channel.outstanding

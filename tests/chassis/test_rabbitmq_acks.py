"""Which delivery tags go into which acknowledgement."""

from hypothesis import given
from hypothesis import strategies as st

from chassis.bus.rabbitmq.acks import Ack, AckTracker


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
    assert tracker.take() == [Ack(2, multiple=False, deliveries=1), Ack(3, multiple=False, deliveries=1)]
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

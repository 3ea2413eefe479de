"""Which failure is retried, when, how often."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.retry import Dead, Later, Reject, RetryAfter, RetryPolicy, age_since

POLICY = RetryPolicy(max_attempts=5, backoff=1.0, backoff_max=10.0, max_age=3600.0)
NEW = timedelta()


def most() -> float:
    return 0.999_999


@given(
    attempt=st.integers(1, 10_000),
    backoff=st.floats(0, 1e6),
    backoff_max=st.floats(0, 1e6),
    dice=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_never_negative_and_never_above_the_cap(
    attempt: int, backoff: float, backoff_max: float, dice: float
) -> None:
    policy = RetryPolicy(max_attempts=20_000, backoff=backoff, backoff_max=backoff_max, max_age=1)
    decision = policy.decide(OSError(), attempt, NEW, lambda: dice)
    assert isinstance(decision, Later)
    assert 0 <= decision.delay <= backoff_max


def test_the_ceiling_of_the_delay_doubles_up_to_its_maximum() -> None:
    policy = RetryPolicy(max_attempts=100, backoff=1.0, backoff_max=10.0, max_age=3600.0)
    delays = [policy.decide(OSError(), attempt, NEW, lambda: 1.0) for attempt in (1, 2, 3, 4, 5, 6)]
    assert delays == [Later(1.0), Later(2.0), Later(4.0), Later(8.0), Later(10.0), Later(10.0)]


def test_the_jitter_is_full() -> None:
    assert POLICY.decide(OSError(), 3, NEW, lambda: 0.0) == Later(0.0)
    assert POLICY.decide(OSError(), 3, NEW, lambda: 0.25) == Later(1.0)


def test_the_last_attempt_is_the_last() -> None:
    assert isinstance(POLICY.decide(OSError(), 4, NEW, most), Later)
    assert POLICY.decide(OSError(), 5, NEW, most) == Dead("attempts_exhausted")


def test_a_rejected_event_is_dead_at_the_first_attempt() -> None:
    assert POLICY.decide(Reject("why"), 1, NEW, most) == Dead("rejected")


def test_an_event_is_too_old_by_the_time_since_its_first_failure() -> None:
    assert isinstance(POLICY.decide(OSError(), 2, timedelta(seconds=3599), most), Later)
    assert POLICY.decide(OSError(), 2, timedelta(seconds=3600), most) == Dead("expired")


def test_retry_after_sets_the_delay_and_counts_as_an_attempt() -> None:
    assert POLICY.decide(RetryAfter(90), 1, NEW, most) == Later(90)
    assert POLICY.decide(RetryAfter(90), 5, NEW, most) == Dead("attempts_exhausted")


@pytest.mark.parametrize(
    ("asked", "given_"),
    [(-5.0, 0.0), (float("nan"), 0.0), (float("inf"), 3600.0)],
    ids=["negative", "nan", "endless"],
)
def test_retry_after_is_kept_within_reason(asked: float, given_: float) -> None:
    assert POLICY.decide(RetryAfter(asked), 1, NEW, most) == Later(given_)


def test_the_age_counts_from_the_first_failure() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert age_since("2026-01-02T03:04:00Z", now) == timedelta(seconds=5)


@pytest.mark.parametrize(
    "unreadable", ["", "yesterday", "2026-01-02T03:04:00"], ids=["none", "no time", "no offset"]
)
def test_an_unreadable_first_failure_is_no_age(unreadable: str) -> None:
    assert age_since(unreadable, datetime.now(UTC)) == timedelta()


def test_a_forgiven_failure_is_never_the_last() -> None:
    assert isinstance(POLICY.decide(OSError(), 99, NEW, most, forgiven=True), Later)


def test_forgiving_saves_neither_what_is_rejected_nor_what_is_too_old() -> None:
    assert POLICY.decide(Reject("why"), 1, NEW, most, forgiven=True) == Dead("rejected")
    assert POLICY.decide(OSError(), 1, timedelta(seconds=3600), most, forgiven=True) == Dead(
        "expired"
    )

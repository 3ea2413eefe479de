"""What a copy's headers say of its past, and what they must not be able to say."""

from datetime import UTC, datetime

import pytest

from chassis.bus.history import ATTEMPT, FIRST_FAILURE, History

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_each_failure_is_one_attempt_more_and_the_first_one_is_remembered() -> None:
    twice = History().failed(NOW).failed(datetime(2027, 1, 1, tzinfo=UTC))
    assert twice == History(3, "2026-01-02T03:04:05.000000Z")


@pytest.mark.parametrize("history", [History(), History(7, "2026-01-02T03:04:05.000000Z", 3)])
def test_a_history_is_read_as_it_was_written_also_as_text(history: History) -> None:
    written = history.headers()
    assert History.read(written) == history
    assert History.read({name: str(value) for name, value in written.items()}) == history


@pytest.mark.parametrize(
    "attempt", [0, -1, "-1", 999_999_999_999, "9" * 5000, "²", "two", None, True, b"2", 2.0, [2]]
)
def test_an_attempt_that_no_service_makes_is_none(attempt: object) -> None:
    assert History.read({ATTEMPT: attempt}) == History()


@pytest.mark.parametrize("first", ["yesterday", "2026-01-02T03:04:05", "", 5, None, b"2026"])
def test_a_first_failure_at_no_time_is_none(first: object) -> None:
    assert History.read({FIRST_FAILURE: first}) == History()

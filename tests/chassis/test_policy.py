"""What a handler's own policy means."""

from datetime import timedelta

import pytest

from chassis.policy import Policy, Wanted, per_second


def test_what_is_left_out_is_left_to_the_settings() -> None:
    assert Wanted().read() == Policy()


def test_times_are_seconds_or_timedeltas() -> None:
    wanted = Wanted(timeout=timedelta(minutes=2), attempts=3, backoff=0.5, rate="10/s")
    assert wanted.read() == Policy(120.0, 3, 0.5, None, 10.0)


def test_a_pair_gives_the_first_and_the_longest_delay() -> None:
    assert Wanted(backoff=(1, timedelta(hours=1))).read() == Policy(backoff=1.0, backoff_max=3600.0)


@pytest.mark.parametrize(
    ("written", "rate"), [("10/s", 10.0), ("90/m", 1.5), ("1800/h", 0.5), ("0.5/s", 0.5)]
)
def test_a_rate_is_events_in_a_second_a_minute_or_an_hour(written: str, rate: float) -> None:
    assert per_second(written) == rate

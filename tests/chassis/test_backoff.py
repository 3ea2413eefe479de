"""How long the chassis waits after failures in a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.backoff import backoff, steady


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0.5), (1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0)]
)
def test_the_delay_doubles_up_to_the_longest(failures: int, seconds: float) -> None:
    assert backoff(failures, 0.5, 30.0, steady) == seconds


def test_the_longest_holds_for_the_first_delay_too() -> None:
    assert backoff(1, 5.0, 2.0, steady) == 2.0


@given(
    failures=st.integers(0, 10**9),
    chance=st.floats(0, 1, exclude_max=True),
    least=st.floats(0, 1),
)
def test_chance_spreads_the_delay_between_its_least_part_and_the_whole(
    failures: int, chance: float, least: float
) -> None:
    whole = backoff(failures, 0.5, 30.0, steady)
    assert (
        whole * least - 1e-9
        <= backoff(failures, 0.5, 30.0, lambda: chance, least=least)
        <= whole + 1e-9
    )

"""What the benchmark of updates requires."""

import pytest
from benchmarks.update import Cost, missed

MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    ("services", "seconds", "memory", "words"),
    [
        (1, 3.1, 499, []),
        (1, 2.9, 499, ["one service: 2.9x as fast as copier, and 3x is required"]),
        (30, 2.0, 499, []),
        (100, 15.1, 499, []),
        (100, 14.9, 499, ["a fleet of 100: 14.9x as fast as copier, and 15x is required"]),
        (100, 15.1, 501, ["a fleet of 100: 501 MB, and at most 500 MB are allowed"]),
    ],
)
def test_a_floor_that_is_missed_is_named(
    services: int, seconds: float, memory: int, words: list[str]
) -> None:
    ours, theirs = Cost(1.0, memory * MEGABYTE, 0), Cost(seconds, 0, 0)
    assert missed(services, ours, theirs) == words

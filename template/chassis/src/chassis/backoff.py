"""How long to wait after failures in a row. Pure: randomness comes in from outside."""

from collections.abc import Callable

_MOST_DOUBLINGS = 64  # beyond any `longest`, and still a float


def steady() -> float:
    """In place of a random number: always the whole delay."""
    return 1.0


def backoff(
    n: int, first: float, longest: float, random: Callable[[], float], *, least: float = 0.0
) -> float:
    """Seconds to wait after the `n`-th failure in a row (from 1).

    The delay doubles from `first` up to `longest`; `random`, a number in [0, 1), spreads it.
    `least` is the part of the delay that is never cut: 0 is the source's "full jitter",
    0.5 its "equal jitter".

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    delay = min(longest, first * 2.0 ** min(max(n - 1, 0), _MOST_DOUBLINGS))
    return delay * (least + (1.0 - least) * random())

"""How many cases of each law there are, and how many were tried. Knows Hypothesis, not the laws."""

import os
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from hypothesis import HealthCheck, Phase, settings

_P = ParamSpec("_P")
_SEEDED = 200
CASES = int(os.environ.get("LAW_CASES", _SEEDED))
LONG = CASES > _SEEDED
"""Whether the laws are tried as often as by `make laws`."""
PLANNED: dict[str, int] = {}
"""How many cases each law is to get, by the name of its test."""
TRIED: Counter[str] = Counter()
"""How many held, by the same names."""


def law(
    share: float, longer: int | None = None
) -> Callable[[Callable[_P, None]], Callable[_P, None]]:
    """A law that gets `share` of all cases, in the long form `longer` cases; goes above `@given`.

    A normal test run, and every run of continuous integration, always tries the same cases.
    """
    number = longer if LONG and longer else max(1, round(share * CASES))
    configured = settings(
        max_examples=number,
        derandomize=CASES == _SEEDED or "CI" in os.environ,
        database=None,
        deadline=None,
        print_blob=True,
        # Explaining a failure takes a hundred more runs, and the smallest example says the same.
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )

    def planned(test: Callable[_P, None]) -> Callable[_P, None]:
        PLANNED[test.__name__] = number
        return configured(test)

    return planned


def counted(test: Callable[_P, None]) -> Callable[_P, None]:
    """Count each case of `test` that held; goes below `@given`."""

    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        test(*args, **kwargs)
        TRIED[test.__name__] += 1

    return run

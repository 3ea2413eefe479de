"""How many cases of each law there are, and how many were tried. Knows Hypothesis; knows nothing of the laws."""

import os
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from hypothesis import HealthCheck, Phase, settings

_P = ParamSpec("_P")
_SEEDED = 200
CASES = int(os.environ.get("LAW_CASES", _SEEDED))
TRIED: Counter[str] = Counter()


def law(share: float) -> Callable[[Callable[_P, None]], Callable[_P, None]]:
    """A law that gets `share` of all cases; goes above `@given`.

    The few cases of a normal test run, and every run of continuous integration, are always the same ones.
    """
    return settings(
        max_examples=max(1, round(share * CASES)),
        derandomize=CASES == _SEEDED or "CI" in os.environ,
        database=None,
        deadline=None,
        print_blob=True,
        # Explaining a failure runs it a hundred times more, and says what the smallest example says.
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


def counted(test: Callable[_P, None]) -> Callable[_P, None]:
    """Count each case of `test` that held; goes below `@given`."""

    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        test(*args, **kwargs)
        TRIED[test.__name__.removeprefix("test_").replace("_", " ")] += 1

    return run

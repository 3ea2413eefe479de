"""An event loop whose clock jumps: nothing sleeps, and hours pass at once.

For code that waits for the loop's time alone. Sockets and threads need a real loop.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` on a loop whose clock starts at 0 and jumps to the next timer when all wait."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


def jumping(
    test: Callable[Arguments, Coroutine[Any, Any, Result]],
) -> Callable[Arguments, Result]:
    """`test` on a loop whose clock jumps."""

    @wraps(test)
    def on_loop(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return run(test(*args, **kwargs))

    return on_loop


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class _Selector(selectors.SelectSelector):
    """Never waits: the time that would pass is added to the clock of `loop`."""

    def __init__(self, loop: _Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits and no timer is set: this would wait for ever")
            self._loop.advance(timeout)
        return ready

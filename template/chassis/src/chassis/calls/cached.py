"""`cached`: single flight, and answers kept for `ttl` seconds.

The upstream call belongs to none of its callers. It runs in a context of its own, so no caller's
log fields or trace are on it, and under a deadline of its own. A caller that is cancelled leaves;
the call goes on for the others.
"""

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from contextvars import Context
from functools import partial, update_wrapper
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from chassis.calls.counts import counts_of

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Owner = TypeVar("Owner")

_KEYWORDS = object()  # stands between positional and keyword arguments in a key


class CachedError(TypeError):
    """A function is cached or called in a way that cannot work; the message names it."""


class Cached(Generic[P, R]):
    """An async function whose answers are shared; see `cached`."""

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        ttl: float,
        maxsize: int,
        timeout: float,
    ) -> None:
        update_wrapper(self, function)
        self._function = function
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._ttl = ttl
        self._maxsize = maxsize
        self._timeout = timeout
        self._counts = counts_of(self._name)
        self._running: dict[Hashable, _Flight[R]] = {}
        self._kept: OrderedDict[Hashable, _Kept[R]] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The answer for these arguments, which must be hashable. Raises what the function raises.

        Raises TimeoutError when the upstream call takes longer than `timeout`.
        """
        key = self._key(args, kwargs)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # tests: answers and calls of another loop are of no use here
            self.clear()
            self._running.clear()
            self._loop = loop
        kept = self._kept.get(key)
        if kept is not None:
            self._counts.hits += 1
            self._kept.move_to_end(key)
            return kept.answer
        flight = self._running.get(key)
        if flight is None or flight.abandoned:
            self._counts.misses += 1
            upstream = self._upstream(self._function(*args, **kwargs))
            flight = _Flight(loop.create_task(upstream, name=self._name, context=Context()))
            self._running[key] = flight
            flight.task.add_done_callback(partial(self._landed, key, flight))
        else:
            self._counts.joined += 1
        return await flight.wait()

    @overload
    def __get__(self, instance: None, owner: type) -> "Cached[P, R]": ...
    @overload
    def __get__(
        self: "Cached[Concatenate[Owner, Q], R]", instance: Owner, owner: type
    ) -> Callable[Q, Awaitable[R]]: ...
    def __get__(self, instance: object, owner: type) -> object:
        """As a method: the instance is part of the key, so it must be hashable."""
        return self if instance is None else MethodType(self, instance)

    def clear(self) -> None:
        """Forget every answer that is kept. A call under way goes on, and its answer is kept."""
        for kept in self._kept.values():
            kept.timer.cancel()
        self._kept.clear()

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    def _key(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Hashable:
        key = (*args, _KEYWORDS, *sorted(kwargs.items())) if kwargs else args
        try:
            hash(key)
        except TypeError as error:
            raise CachedError(
                f"{self._name} is cached, so its arguments must be hashable: {error}. "
                "Pass text, numbers or tuples, such as an id instead of a message"
            ) from None
        return key

    async def _upstream(self, call: Coroutine[Any, Any, R]) -> R:
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                return await call
        except Exception as error:
            self._counts.failures += 1
            if deadline.expired():
                late = f"{self._name} took longer than its timeout of {self._timeout:g} s"
                raise TimeoutError(late) from error
            raise

    def _landed(self, key: Hashable, flight: "_Flight[R]", task: "asyncio.Task[R]") -> None:
        """Keep the answer. An error is shared by those who waited and not kept."""
        if self._running.get(key) is flight:
            del self._running[key]
        if task.cancelled() or task.exception() is not None or task.get_loop() is not self._loop:
            return
        timer = task.get_loop().call_later(self._ttl, self._kept.pop, key, None, context=Context())
        self._kept[key] = _Kept(task.result(), timer)
        if len(self._kept) > self._maxsize:
            _, oldest = self._kept.popitem(last=False)
            oldest.timer.cancel()


class _Flight(Generic[R]):
    """One upstream call, and how many callers wait for it.

    `abandoned`: all of them left before it ended, so a new caller needs a call of its own.
    """

    __slots__ = ("abandoned", "task", "waiting")

    def __init__(self, task: "asyncio.Task[R]") -> None:
        self.task = task
        self.waiting = 0
        self.abandoned = False

    async def wait(self) -> R:
        """The answer. The call is cancelled once the last caller has left it."""
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1
            if not self.waiting and not self.task.done():
                self.abandoned = True
                self.task.cancel()


class _Kept(Generic[R]):
    """An answer, and the timer that forgets it without traffic."""

    __slots__ = ("answer", "timer")

    def __init__(self, answer: R, timer: asyncio.TimerHandle) -> None:
        self.answer = answer
        self.timer = timer


def cached(
    *, ttl: float = 0.1, maxsize: int = 1000, timeout: float = 10.0
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Cached[P, R]]:
    """Share the answers of an async function that reads over the network.

    Callers that ask for the same arguments at once wait for one upstream call. Its answer is kept
    for `ttl` seconds from its arrival; at most `maxsize` answers are kept, the least recently used
    leaves first. An error reaches everyone who waited for the call and is not kept. The call has
    `timeout` seconds, without regard to its callers' deadlines, and is cancelled once nobody waits.

    For reads only: a call with an effect must happen once for each event. Everyone gets the same
    object, so nobody must change it. Raises CachedError.
    """

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Cached[P, R]:
        if not inspect.iscoroutinefunction(function):
            name = getattr(function, "__qualname__", repr(function))
            raise CachedError(f"{name} must be an `async def` function to be cached")
        for what, value in (("ttl", ttl), ("maxsize", maxsize), ("timeout", timeout)):
            if not value > 0:
                raise CachedError(f"{function.__qualname__}: {what}={value!r} must be above 0")
        return Cached(function, ttl, maxsize, timeout)

    return decorate

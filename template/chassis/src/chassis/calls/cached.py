"""`cached`: single flight, and answers kept for `ttl` seconds.

The upstream call belongs to none of its callers. It runs in a context of its own, so no caller's
log fields or trace are on it, and under a deadline of its own. A caller that is cancelled leaves;
the call goes on for the others. One event loop at a time.
"""

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from contextvars import Context
from copy import copy
from functools import partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from chassis.calls.counts import counts_of

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Owner = TypeVar("Owner")


class CachedError(TypeError):
    """A function is cached or called in a way that cannot work; the message names it."""


class CallCancelled(Exception):
    """The upstream call was cancelled from within, although callers waited for it."""


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
        self._function: Callable[..., Coroutine[Any, Any, R]] = function
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
        return await self._answer(self._key(args, kwargs), args, kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> "Cached[P, R]": ...
    @overload
    def __get__(
        self: "Cached[Concatenate[Owner, Q], R]", instance: Owner, owner: type
    ) -> Callable[Q, Awaitable[R]]: ...
    def __get__(self, instance: object, owner: type) -> object:
        """As a method: each instance has its own answers, also if it equals another one."""
        return self if instance is None else partial(self._of, instance)

    async def _of(self, instance: object, *args: Any, **kwargs: Any) -> R:
        key = (_Same(instance), self._key(args, kwargs))
        return await self._answer(key, (instance, *args), kwargs)

    @property
    def kept(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    def clear(self) -> None:
        """Forget every answer. A call under way answers its callers; its answer is not kept."""
        for kept in self._kept.values():
            kept.timer.cancel()
        self._kept.clear()
        self._running.clear()

    async def _answer(
        self, key: Hashable, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> R:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # answers and calls of another loop are of no use here
            self.clear()
            self._loop = loop
        kept = self._kept.get(key)
        if kept is not None and loop.time() < kept.timer.when():
            self._counts.hits += 1
            self._kept.move_to_end(key)
            return kept.answer
        flight = self._running.get(key)
        if flight is None:
            self._counts.misses += 1
            flight = _Flight(loop)
            self._running[key] = flight
            flight.start(self._upstream(args, kwargs), self._name, partial(self._landed, key))
        elif flight.task is asyncio.current_task():
            raise CachedError(
                f"{self._name} calls itself with the same arguments: it would wait for its own "
                "answer. Call the function that it caches instead, its `__wrapped__`"
            )
        else:
            self._counts.joined += 1
        try:
            return await flight.wait()
        finally:
            if flight.abandoned and self._running.get(key) is flight:
                del self._running[key]

    def _key(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Hashable:
        """Arguments with their types, because 1, True and 1.0 are equal."""
        named = tuple(sorted(kwargs.items()))
        types = (*map(type, args), *(type(value) for _, value in named))
        key = (args, named, types)
        try:
            hash(key)
        except TypeError as error:
            raise CachedError(
                f"{self._name} is cached, so its arguments must be hashable: {error}. "
                "Pass text, numbers or tuples, such as an id instead of a message"
            ) from None
        return key

    async def _upstream(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> R:
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                answer = await self._function(*args, **kwargs)
        except Exception as error:
            self._counts.failures += 1
            if deadline.expired():
                raise self._late() from error
            raise
        if deadline.expired():  # the function swallowed its cancellation
            self._counts.failures += 1
            raise self._late()
        return answer

    def _late(self) -> TimeoutError:
        return TimeoutError(f"{self._name} took longer than its timeout of {self._timeout:g} s")

    def _landed(self, key: Hashable, flight: "_Flight[R]") -> None:
        """Keep the answer. An error is shared by the callers that waited, and not kept."""
        if self._running.get(key) is not flight:  # abandoned, or forgotten by `clear`
            return
        del self._running[key]
        task = flight.task
        if task.cancelled():
            self._counts.failures += 1
        elif task.exception() is None:
            self._keep(key, task.result(), task.get_loop())

    def _keep(self, key: Hashable, answer: R, loop: asyncio.AbstractEventLoop) -> None:
        if (before := self._kept.pop(key, None)) is not None:
            before.timer.cancel()
        timer = loop.call_later(self._ttl, self._kept.pop, key, None, context=Context())
        self._kept[key] = _Kept(answer, timer)
        if len(self._kept) > self._maxsize:
            _, oldest = self._kept.popitem(last=False)
            oldest.timer.cancel()


class _Flight(Generic[R]):
    """One upstream call, and the callers that wait for it.

    `abandoned`: all of them left before it ended, so a new caller needs a call of its own.
    """

    __slots__ = ("_loop", "_waiters", "abandoned", "task")

    task: "asyncio.Task[R]"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: set[asyncio.Future[None]] = set()
        self.abandoned = False

    def start(
        self, call: Coroutine[Any, Any, R], name: str, landed: "Callable[[_Flight[R]], None]"
    ) -> None:
        """Begin the call; `landed` is called when it has ended, before its callers go on."""
        self.task = self._loop.create_task(call, name=name, context=Context())

        def done(_: "asyncio.Task[R]") -> None:
            landed(self)
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

        self.task.add_done_callback(done)

    async def wait(self) -> R:
        """The answer. The call is cancelled once the last caller has left it."""
        waiter = self._loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if not self._waiters and not self.task.done():
                self.abandoned = True
                self.task.cancel()
        if self.task.cancelled():
            raise CallCancelled(f"{self.task.get_name()} was cancelled from within")
        error = self.task.exception()
        if error is not None:
            raise _own(error)
        return self.task.result()


def _own(error: BaseException) -> BaseException:
    """The error for one caller: notes and contexts that it gets must not reach the others."""
    try:
        twin = copy(error)
    except Exception:  # noqa: BLE001 - an error that cannot be copied is shared
        return error
    if type(twin) is not type(error):
        return error
    twin.__cause__, twin.__suppress_context__ = error.__cause__, error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


class _Kept(Generic[R]):
    """An answer, and the timer that forgets it without traffic."""

    __slots__ = ("answer", "timer")

    def __init__(self, answer: R, timer: asyncio.TimerHandle) -> None:
        self.answer = answer
        self.timer = timer


class _Same:
    """An instance as part of a key: itself, not what it equals."""

    __slots__ = ("_instance",)

    def __init__(self, instance: object) -> None:
        self._instance = instance

    def __hash__(self) -> int:
        return id(self._instance)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._instance is other._instance


def cached(
    *, ttl: float = 0.1, maxsize: int = 1000, timeout: float = 10.0
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Cached[P, R]]:
    """Share the answers of an async function that reads over the network.

    Callers that ask for the same arguments at once wait for one upstream call. Its answer is kept
    for `ttl` seconds from its arrival; at most `maxsize` answers are kept, the least recently used
    leaves first. An error reaches every caller that waited for the call and is not kept. The call
    has `timeout` seconds, and is cancelled once nobody waits for it.

    For reads only: a call with an effect must happen once for each event. All callers get the same
    object, so nobody must change it or use it up. Raises CachedError.
    """

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Cached[P, R]:
        name = getattr(function, "__qualname__", repr(function))
        if not hasattr(function, "__qualname__") or not inspect.iscoroutinefunction(function):
            raise CachedError(f"{name} must be an `async def` function that returns its answer")
        for what, value in (("ttl", ttl), ("maxsize", maxsize), ("timeout", timeout)):
            given: object = value
            if not isinstance(given, int | float) or given <= 0:
                raise CachedError(f"{name}: {what}={value!r} must be a number above 0")
        return Cached(function, ttl, maxsize, timeout)

    return decorate

"""What `cached` promises. The clock is virtual: nothing waits."""

import asyncio
import gc
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakSet

import pytest
from prometheus_client import CollectorRegistry

from chassis.calls import CachedError, CallCancelled, cached
from chassis.telemetry.collectors import Imported
from tests import clock

CALLERS = 1000


class Upstream:
    """A slow service: it counts its calls, and how many were cancelled."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.calls = 0
        self.cancelled = 0
        self.seconds = seconds
        self.error: Exception | None = None

    async def read(self, key: object) -> str:
        self.calls += 1
        number = self.calls
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return f"{key}: {number}"


def test_many_callers_at_once_share_one_call() -> None:
    upstream = Upstream()
    read = cached(ttl=5)(upstream.read)

    async def main() -> list[str]:
        return await asyncio.gather(*(read("a") for _ in range(CALLERS)))

    assert clock.run(main()) == ["a: 1"] * CALLERS
    assert upstream.calls == 1


def test_each_arguments_have_an_answer_of_their_own() -> None:
    @cached(ttl=5)
    async def joined(*parts: str, end: str = "") -> str:
        return "".join(parts) + end

    async def main() -> list[str]:
        return [
            await joined("a", "b"),
            await joined("a", end="b!"),
            await joined("a"),
            await joined("a", "b"),
        ]

    assert clock.run(main()) == ["ab", "ab!", "a", "ab"]
    assert joined.kept == 3


@pytest.mark.parametrize("leaving", [0, 1, CALLERS - 1], ids=["first", "second", "last"])
def test_a_caller_that_is_cancelled_takes_nobody_with_it(leaving: int) -> None:
    upstream = Upstream()
    read = cached(ttl=5)(upstream.read)

    async def main() -> list[str | BaseException]:
        callers = [asyncio.create_task(read("a")) for _ in range(CALLERS)]
        await asyncio.sleep(0.5)
        callers[leaving].cancel()
        return await asyncio.gather(*callers, return_exceptions=True)

    answers = clock.run(main())

    assert answers.count("a: 1") == CALLERS - 1
    assert isinstance(answers[leaving], asyncio.CancelledError)
    assert (upstream.calls, upstream.cancelled) == (1, 0)


def test_the_call_is_cancelled_once_nobody_waits_for_it() -> None:
    upstream = Upstream()
    read = cached(ttl=5)(upstream.read)

    async def main() -> str:
        caller = asyncio.create_task(read("a"))
        await asyncio.sleep(0.5)
        caller.cancel()
        await asyncio.wait([caller])
        return await read("a")  # and who comes now is not cancelled with it

    assert clock.run(main()) == "a: 2"
    assert upstream.cancelled == 1


def test_an_answer_is_kept_for_its_time_from_its_arrival() -> None:
    upstream = Upstream(seconds=10.0)
    read = cached(ttl=5, timeout=60)(upstream.read)

    async def main() -> list[str]:
        answers = [await read("a")]
        await asyncio.sleep(4.9)
        answers.append(await read("a"))
        await asyncio.sleep(0.2)
        answers.append(await read("a"))
        return answers

    assert clock.run(main()) == ["a: 1", "a: 1", "a: 2"]


def test_answers_are_forgotten_without_further_calls() -> None:
    read = cached(ttl=5)(Upstream().read)

    async def main() -> tuple[int, int]:
        await asyncio.gather(*(read(key) for key in range(100)))
        kept = read.kept
        await asyncio.sleep(5.1)
        return kept, read.kept

    assert clock.run(main()) == (100, 0)


def test_the_least_recently_used_answer_makes_room() -> None:
    upstream = Upstream()
    read = cached(ttl=100, maxsize=2)(upstream.read)

    async def main() -> int:
        for key in ("a", "b", "a", "c"):  # b is the one that was used longest ago
            await read(key)
        before = upstream.calls
        await read("a")
        await read("c")
        assert upstream.calls == before
        await read("b")
        return read.kept

    assert clock.run(main()) == 2
    assert upstream.calls == 4


def test_however_many_keys_are_asked_for_no_more_answers_live_than_are_kept() -> None:
    class Answer:
        """Something that can be watched."""

    alive: WeakSet[Answer] = WeakSet()

    @cached(ttl=1000, maxsize=100)
    async def read(_: int) -> Answer:
        answer = Answer()
        alive.add(answer)
        return answer

    async def main() -> int:
        for key in range(5_000):
            await read(key)
        gc.collect()
        return len(alive)

    assert clock.run(main()) == 100


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    upstream = Upstream()
    upstream.error = OSError("no route")
    read = cached(ttl=5)(upstream.read)

    async def main() -> str:
        answers = await asyncio.gather(*(read("a") for _ in range(5)), return_exceptions=True)
        assert [repr(answer) for answer in answers] == ["OSError('no route')"] * 5
        assert upstream.calls == 1
        upstream.error = None
        return await read("a")

    assert clock.run(main()) == "a: 2"


def test_the_call_has_a_deadline_of_its_own() -> None:
    upstream = Upstream(seconds=100)
    read = cached(timeout=3)(upstream.read)

    async def main() -> None:
        started = asyncio.get_running_loop().time()
        with pytest.raises(
            TimeoutError, match=r"Upstream\.read took longer than its timeout of 3 s"
        ):
            await read("a")
        assert asyncio.get_running_loop().time() - started == pytest.approx(3)

    clock.run(main())


def test_a_callers_own_deadline_leaves_the_call_to_the_others() -> None:
    upstream = Upstream(seconds=2)
    read = cached(ttl=5)(upstream.read)

    async def impatient() -> str:
        async with asyncio.timeout(1):
            return await read("a")

    async def main() -> list[str | BaseException]:
        return list(await asyncio.gather(impatient(), read("a"), return_exceptions=True))

    late, answer = clock.run(main())

    assert isinstance(late, TimeoutError)
    assert answer == "a: 1"


def test_the_call_runs_in_a_context_of_its_own() -> None:
    event: ContextVar[str] = ContextVar("event", default="none")

    @cached()
    async def seen() -> str:
        return event.get()

    async def main() -> str:
        event.set("the first caller's")
        return await seen()

    assert clock.run(main()) == "none"


def test_a_method_is_cached_for_each_instance() -> None:
    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        @cached(ttl=5)
        async def hello(self, whom: str) -> str:
            return f"{self.name} greets {whom}"

    async def main() -> list[str]:
        one, other = Client("one"), Client("other")
        return [await one.hello("you"), await other.hello("you"), await one.hello("you")]

    assert clock.run(main()) == ["one greets you", "other greets you", "one greets you"]


def test_another_event_loop_begins_anew() -> None:
    upstream = Upstream()
    read = cached(ttl=1000)(upstream.read)

    assert [clock.run(read("a")), clock.run(read("a"))] == ["a: 1", "a: 2"]


def test_clear_forgets_what_is_kept() -> None:
    read = cached(ttl=1000)(Upstream().read)

    async def main() -> str:
        await read("a")
        read.clear()
        return await read("a")

    assert clock.run(main()) == "a: 2"


def test_what_answered_is_counted() -> None:
    @cached(ttl=5)
    async def counted(key: str) -> str:
        await asyncio.sleep(1)
        if key == "bad":
            raise OSError(key)
        return key

    async def main() -> None:
        await asyncio.gather(*(counted("a") for _ in range(3)))
        await counted("a")
        with pytest.raises(OSError, match="bad"):
            await counted("bad")

    clock.run(main())
    registry = CollectorRegistry()
    registry.register(Imported())

    def value(name: str, **labels: str) -> float | None:
        function = f"{__name__}.{test_what_answered_is_counted.__qualname__}.<locals>.counted"
        return registry.get_sample_value(name, {"function": function, **labels})

    assert value("chassis_cached_calls_total", outcome="miss") == 2
    assert value("chassis_cached_calls_total", outcome="joined") == 2
    assert value("chassis_cached_calls_total", outcome="hit") == 1
    assert value("chassis_cached_call_failures_total") == 1


def test_arguments_that_cannot_be_a_key_are_named() -> None:
    @cached()
    async def read(_: object) -> str:
        return ""

    with pytest.raises(
        CachedError, match=r"read is cached, so its arguments must be hashable.*list"
    ):
        clock.run(read([]))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"ttl": 0.0}, "ttl=0.0"), ({"maxsize": 0}, "maxsize=0"), ({"timeout": -1.0}, "timeout=-1.0")],
    ids=["ttl", "maxsize", "timeout"],
)
def test_a_setting_that_means_nothing_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(CachedError, match=rf"read: {named} must be a number above 0"):
        cached(**settings)(Upstream().read)


def test_a_plain_function_is_refused() -> None:
    def read() -> str:
        return ""

    with pytest.raises(CachedError, match="read must be an `async def` function"):
        cached()(cast("Any", read))


def test_an_answer_that_is_too_old_is_not_given_by_a_loop_that_was_blocked() -> None:
    upstream = Upstream(seconds=0)
    read = cached(ttl=5)(upstream.read)

    async def main() -> list[str]:
        answers = [await read("a")]
        asyncio.get_running_loop().advance(6)  # type: ignore[attr-defined]  # of tests.clock
        answers.append(await read("a"))  # no timer had a chance to run in between
        return answers

    assert clock.run(main()) == ["a: 1", "a: 2"]


def test_equal_arguments_of_different_types_are_different() -> None:
    @cached(ttl=5)
    async def shown(value: object, *, default: object = None) -> str:
        return f"{value!r} {default!r}"

    async def main() -> list[str]:
        return [await shown(1), await shown(True), await shown(1.0), await shown("", default=0)]

    assert clock.run(main()) == ["1 None", "True None", "1.0 None", "'' 0"]


def test_instances_that_are_equal_have_their_own_answers() -> None:
    @dataclass(frozen=True)
    class Account:
        url: str
        token: str = field(compare=False)

        @cached(ttl=5)
        async def balance(self) -> str:
            return self.token

    async def main() -> list[str]:
        ada, bob = Account("u", "ada"), Account("u", "bob")
        return [await ada.balance(), await bob.balance(), await ada.balance()]

    assert clock.run(main()) == ["ada", "bob", "ada"]


def test_an_abandoned_call_that_answers_all_the_same_replaces_nothing() -> None:
    started = 0

    @cached(ttl=10, timeout=100)
    async def stubborn() -> int:
        nonlocal started
        started += 1
        mine = started
        try:
            await asyncio.sleep(1 if mine > 1 else 50)
        except asyncio.CancelledError:
            await asyncio.sleep(3)
        return mine

    async def main() -> list[int]:
        first = asyncio.create_task(stubborn())
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.wait([first])
        answers = [await stubborn()]
        await asyncio.sleep(5)  # the abandoned call has answered meanwhile
        answers.append(await stubborn())
        return answers

    assert clock.run(main()) == [2, 2]


def test_a_function_that_swallows_its_cancellation_is_late_all_the_same() -> None:
    @cached(timeout=3)
    async def stubborn() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        return "late"

    with pytest.raises(TimeoutError, match="took longer than its timeout of 3 s"):
        clock.run(stubborn())
    assert stubborn.kept == 0


def test_an_error_carries_nothing_of_one_caller_to_another() -> None:
    upstream = Upstream()
    upstream.error = OSError("no route")
    read = cached()(upstream.read)

    async def ask(secret: str) -> OSError:
        try:
            try:
                raise ValueError(secret)
            except ValueError:
                await read("a")
        except OSError as error:
            return error
        raise AssertionError("no error")

    async def main() -> list[OSError]:
        return list(await asyncio.gather(ask("of ada"), ask("of bob")))

    ada, bob = clock.run(main())

    assert (str(ada), str(bob)) == ("no route", "no route")
    assert (repr(ada.__context__), repr(bob.__context__)) == (
        "ValueError('of ada')",
        "ValueError('of bob')",
    )


def test_a_function_that_waits_for_its_own_answer_is_told_so() -> None:
    @cached()
    async def again(key: str) -> str:
        return await again(key)

    with pytest.raises(CachedError, match="again calls itself with the same arguments"):
        clock.run(again("a"))


def test_a_call_that_cancels_itself_is_an_error_for_its_callers() -> None:
    @cached()
    async def gives_up() -> str:
        raise asyncio.CancelledError

    async def main() -> list[object]:
        return list(await asyncio.gather(gives_up(), gives_up(), return_exceptions=True))

    assert [type(answer) for answer in clock.run(main())] == [CallCancelled, CallCancelled]


def test_clear_keeps_no_answer_of_a_call_that_began_before() -> None:
    upstream = Upstream()
    read = cached(ttl=1000)(upstream.read)

    async def main() -> list[str]:
        asked = asyncio.create_task(read("a"))
        await asyncio.sleep(0.5)
        read.clear()
        return [await asked, await read("a")]

    assert clock.run(main()) == ["a: 1", "a: 2"]


def test_many_callers_leave_as_fast_as_they_came() -> None:
    read = cached(timeout=100)(Upstream(seconds=50).read)

    async def main() -> int:
        callers = [asyncio.create_task(read("a")) for _ in range(10_000)]
        await asyncio.sleep(1)
        for caller in callers:
            caller.cancel()
        left, _ = await asyncio.wait(callers)
        return len(left)

    assert clock.run(main()) == 10_000  # one list of callbacks for all took minutes

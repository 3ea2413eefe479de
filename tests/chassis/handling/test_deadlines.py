"""Handlers have a time each; one timer serves them all."""

import asyncio

import pytest

from chassis.handling.deadlines import Deadlines
from tests import clock


@clock.jumping
async def test_a_task_that_is_not_done_in_time_is_cancelled() -> None:
    deadlines = Deadlines(0.01)

    async def work() -> str:
        deadline = deadlines.begin(_this())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            deadlines.lift(deadline)
            assert deadline.expired
            assert _this().cancelling() == 0, "nobody else may take it for a cancellation"
            return "late"
        return "done"

    assert await asyncio.create_task(work()) == "late"


@clock.jumping
async def test_a_lifted_deadline_cancels_nothing_any_more() -> None:
    deadlines = Deadlines(0.01)
    deadline = deadlines.begin(_this())
    deadlines.lift(deadline)
    await asyncio.sleep(0.05)
    assert not deadline.expired


@clock.jumping
async def test_each_of_many_has_its_own_time() -> None:
    deadlines = Deadlines(0.05)
    ended: list[str] = []

    async def work(name: str, released: asyncio.Event) -> None:
        deadline = deadlines.begin(_this())
        try:
            await released.wait()
            ended.append(f"{name} done")
        except asyncio.CancelledError:
            ended.append(f"{name} late")
        finally:
            deadlines.lift(deadline)

    quick, never = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(work("first", quick))
    second = asyncio.create_task(work("second", never))
    await asyncio.sleep(0)
    quick.set()
    await first
    third = asyncio.create_task(work("third", never))
    await asyncio.gather(second, third)
    assert ended == ["first done", "second late", "third late"]


@clock.jumping
async def test_another_cancellation_is_not_taken_back() -> None:
    deadlines = Deadlines(60)

    async def work() -> None:
        deadline = deadlines.begin(_this())
        try:
            await asyncio.Event().wait()
        finally:
            deadlines.lift(deadline)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def _this() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task

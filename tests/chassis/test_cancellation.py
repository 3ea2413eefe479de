"""A task ends although it swallows a cancellation."""

import asyncio

import pytest

from chassis.cancellation import cancel


@pytest.mark.parametrize("swallows", [0, 1, 3])
async def test_a_task_that_swallows_cancellations_is_ended(swallows: int) -> None:
    async def stubborn() -> None:
        for _ in range(swallows):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await cancel(task, again=0.001)
    assert task.cancelled()


async def test_a_task_that_has_ended_by_itself_is_left_alone() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await cancel(task)
    assert not task.cancelled()

"""Who gets a turn, who waits for it, and who is sent away."""

import asyncio

import pytest

from chassis.handling.appointments import LONGEST_SECONDS, NoTurn
from chassis.handling.turns import Lines, Slots
from tests.waiting import PATIENCE, eventually


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_turns_are_given_in_the_order_of_coming() -> None:
    slots = Slots(2)
    order: list[int] = []

    async def visit(number: int) -> None:
        await slots.take()
        order.append(number)

    visits = [asyncio.create_task(visit(number)) for number in range(5)]
    await settled()
    assert order == [0, 1]
    slots.free(0.1)
    await settled()
    assert order == [0, 1, 2]
    slots.free(0.1)
    slots.free(0.1)
    await asyncio.wait_for(asyncio.gather(*visits), PATIENCE)
    assert order == [0, 1, 2, 3, 4]


async def test_a_turn_given_to_somebody_who_is_cancelled_at_that_moment_goes_to_the_next() -> None:
    slots = Slots(1)
    await slots.take()
    first, second = (asyncio.create_task(slots.take()) for _ in range(2))
    await settled()
    slots.free(0.1)
    first.cancel()
    assert await asyncio.wait_for(second, PATIENCE) == 0
    slots.free(0.1)
    assert slots.available


async def test_nobody_is_sent_away_while_the_turn_comes_soon() -> None:
    slots = Slots(1, room=1)
    await slots.take()
    slots.free(0.01)
    await slots.take()
    waiting = [asyncio.create_task(slots.take()) for _ in range(50)]
    await settled()
    assert not any(task.done() for task in waiting)
    slots.close()
    assert all(
        isinstance(end, NoTurn) for end in await asyncio.gather(*waiting, return_exceptions=True)
    )


async def test_beyond_the_room_each_is_told_a_time_of_its_own_to_come_back() -> None:
    slots = Slots(2, room=2, clock=lambda: 100.0)
    await slots.take()
    slots.free(8.0)
    for _ in range(2):
        await slots.take()
    waiting = [asyncio.create_task(slots.take()) for _ in range(2)]
    await settled()
    assert [await slots.take() for _ in range(3)] == [10.0, 12.0, 14.0]
    assert [await slots.take() for _ in range(200)][-1] == LONGEST_SECONDS
    patient = asyncio.create_task(slots.take(patient=True))
    await settled()
    assert not patient.done()
    slots.close()
    await asyncio.gather(patient, *waiting, return_exceptions=True)


async def test_after_closing_whoever_would_have_to_wait_gets_no_turn() -> None:
    slots = Slots(1)
    slots.close()
    assert await slots.take() == 0
    with pytest.raises(NoTurn):
        await slots.take()


async def test_a_key_takes_memory_only_while_somebody_stands_in_its_line() -> None:
    lines = Lines()
    places = [lines.join(key) for key in ("a", "b", "a")]
    assert len(lines) == 2
    for place in places:
        place.leave()
        place.leave()
    assert len(lines) == 0


async def test_a_line_moves_up_when_somebody_leaves() -> None:
    lines = Lines()
    until = asyncio.get_running_loop().time() + PATIENCE
    first, second, third = (lines.join("a") for _ in range(3))
    await first.reached(until)
    reached = asyncio.create_task(third.reached(until))
    second.leave()
    await settled()
    assert not reached.done()
    first.leave()
    await asyncio.wait_for(reached, PATIENCE)


async def test_closing_sends_away_who_pauses_first_and_those_behind_in_their_order() -> None:
    lines = Lines()
    until = asyncio.get_running_loop().time() + PATIENCE
    gone: list[int] = []
    first, *others = (lines.join("a") for _ in range(4))

    async def go(number: int, waits: object) -> None:
        with pytest.raises(NoTurn):
            await waits  # type: ignore[misc] # a coroutine, whichever
        gone.append(number)

    await first.reached(until)
    tasks = [asyncio.create_task(go(0, first.pause(PATIENCE)))]
    tasks += [
        asyncio.create_task(go(number, place.reached(until)))
        for number, place in enumerate(others, 1)
    ]
    await settled()
    lines.close()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    assert gone == [0, 1, 2, 3]
    with pytest.raises(NoTurn):
        await lines.join("a").reached(until)


async def test_who_has_waited_too_long_takes_those_behind_along() -> None:
    lines = Lines()
    clock = asyncio.get_running_loop().time
    lines.join("a")
    late, behind = lines.join("a"), lines.join("a")
    waiting = asyncio.create_task(behind.reached(clock() + PATIENCE))
    with pytest.raises(NoTurn):
        await late.reached(clock())
    await eventually(waiting.done)
    assert isinstance(waiting.exception(), NoTurn)

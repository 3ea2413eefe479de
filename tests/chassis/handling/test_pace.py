"""A handler's rate: who waits, who comes back later, and when."""

import asyncio

import pytest

from chassis.handling.appointments import HOLD_SECONDS, NoTurn
from chassis.handling.pace import Pace
from tests.clock import jumping


def now() -> float:
    return asyncio.get_running_loop().time()


@jumping
async def test_turns_are_evenly_spaced_in_the_order_of_coming() -> None:
    pace = Pace(4)
    turns: list[tuple[int, float]] = []

    async def visit(number: int) -> None:
        assert await pace.take() == 0
        turns.append((number, now()))

    await asyncio.gather(*(visit(number) for number in range(5)))
    assert turns == [(number, number / 4) for number in range(5)]


@jumping
async def test_idle_time_is_not_saved_up() -> None:
    pace = Pace(2)
    await pace.take()
    await asyncio.sleep(100)
    assert pace.available
    await pace.take()
    assert not pace.available
    await pace.take()
    assert now() == 100.5


@jumping
async def test_beyond_the_room_each_is_told_a_time_of_its_own_to_come_back() -> None:
    pace = Pace(0.5, room=2)
    waiting = [asyncio.create_task(pace.take()) for _ in range(3)]
    await asyncio.sleep(0)
    assert [await pace.take() for _ in range(3)] == [7.0, 8.0, 9.0]
    patient = asyncio.create_task(pace.take(patient=True))
    assert await asyncio.gather(*waiting, patient) == [0, 0, 0, 0]
    assert now() == 6.0


@jumping
async def test_no_turn_is_waited_for_in_hand_for_too_long() -> None:
    pace = Pace(2 / HOLD_SECONDS)
    waiting = [asyncio.create_task(pace.take(patient=True)) for _ in range(3)]
    await asyncio.sleep(0)
    assert await pace.take(patient=True) > 0
    assert await asyncio.gather(*waiting) == [0, 0, 0]


@jumping
async def test_a_drain_sends_away_who_waits_and_serves_who_need_not() -> None:
    pace = Pace(1)
    await pace.take()
    waiting = asyncio.create_task(pace.take())
    await asyncio.sleep(0)
    pace.close()
    with pytest.raises(NoTurn):
        await waiting
    assert now() == 0
    await asyncio.sleep(10)
    assert await pace.take() == 0

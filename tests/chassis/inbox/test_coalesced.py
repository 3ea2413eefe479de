"""Operations that wait together travel together, and each gets its own answer."""

import asyncio
from collections.abc import Sequence

from chassis.inbox import InboxUnavailable
from chassis.inbox.coalesced import Coalesced


class Store:
    """Answers with the double of each number, once it is `open`."""

    def __init__(self) -> None:
        self.batches: list[Sequence[int]] = []
        self.open = asyncio.Event()
        self.away = False

    async def double(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(batch)
        await self.open.wait()
        if self.away:
            raise InboxUnavailable("the store is away")
        return [2 * number for number in batch]


async def test_what_arrives_while_a_batch_is_on_its_way_forms_the_next() -> None:
    store = Store()
    numbers = Coalesced(store.double, most=3)
    first = [numbers.ask(1), numbers.ask(2)]
    await asyncio.sleep(0)
    later = [numbers.ask(number) for number in range(3, 8)]
    store.open.set()
    assert await asyncio.gather(*first, *later) == [2, 4, 6, 8, 10, 12, 14]
    assert store.batches == [[1, 2], [3, 4, 5], [6, 7]]


async def test_a_failure_is_told_to_each_caller_and_the_next_batch_is_tried() -> None:
    store = Store()
    store.open.set()
    store.away = True
    numbers = Coalesced(store.double)
    errors = await asyncio.gather(numbers.ask(1), numbers.ask(2), return_exceptions=True)
    assert [str(error) for error in errors] == ["the store is away"] * 2
    assert errors[0] is not errors[1]
    store.away = False
    assert await numbers.ask(3) == 6


async def test_a_caller_that_has_gone_takes_no_place() -> None:
    store = Store()
    numbers = Coalesced(store.double)
    sent = numbers.ask(1)
    await asyncio.sleep(0)
    gone, waiting = numbers.ask(2), numbers.ask(3)
    gone.cancel()
    sent.cancel()
    store.open.set()
    assert await waiting == 6
    assert store.batches == [[1], [3]]


async def test_closing_waits_for_the_answers_that_are_due() -> None:
    store = Store()
    numbers = Coalesced(store.double)
    answer = numbers.ask(1)
    closing = asyncio.create_task(numbers.close())
    await asyncio.sleep(0)
    assert not closing.done()
    store.open.set()
    await closing
    assert await answer == 2

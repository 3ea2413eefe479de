"""Operations that arrive while a batch is on its way form the next batch. Knows no store."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Generic, TypeVar

Operation = TypeVar("Operation")
Answer = TypeVar("Answer")


class Coalesced(Generic[Operation, Answer]):
    """`perform` gets at most `most` operations, and gives an answer for each of them.

    An error that it raises is raised to the caller of each operation.
    """

    def __init__(
        self,
        perform: Callable[[Sequence[Operation]], Awaitable[Sequence[Answer]]],
        *,
        most: int = 512,
    ) -> None:
        self._perform = perform
        self._most = most
        self._queue: list[tuple[Operation, asyncio.Future[Answer]]] = []
        self._sender: asyncio.Task[None] | None = None

    def ask(self, operation: Operation) -> "asyncio.Future[Answer]":
        """The answer, at most two batches later. A cancelled one that has not left is dropped."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append((operation, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_queue())
        return answer

    async def close(self) -> None:
        """Wait for the answers that are due."""
        if self._sender is not None:
            await self._sender

    async def _send_queue(self) -> None:
        try:
            while self._queue:
                batch = [asked for asked in self._queue[: self._most] if not asked[1].done()]
                del self._queue[: self._most]
                if batch:
                    await self._send(batch)
        finally:
            self._sender = None

    async def _send(self, batch: Sequence[tuple[Operation, "asyncio.Future[Answer]"]]) -> None:
        try:
            answers = await self._perform([operation for operation, _ in batch])
        except Exception as error:  # noqa: BLE001 - any error belongs to the callers that wait
            for _, waiting in batch:
                if not waiting.done():
                    own = copy(error)  # a stack of its own
                    own.__cause__ = error
                    waiting.set_exception(own)
            return
        for (_, waiting), answer in zip(batch, answers, strict=True):
            if not waiting.done():
                waiting.set_result(answer)

"""A bus in this process: for tests and for `memory://`. All of it is gone with the process.

`MemoryBroker` is the server, `MemoryBus` one replica's connection to the server.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from chassis.bus import Backlog, DeadLetter, Failure, OnDelivery, Subscription, Verdict
from chassis.bus.dead_letters import letter_id
from chassis.bus.history import History
from chassis.contracts.envelope import (
    AMQP_PREFIX,
    CONTENT_TYPE,
    EncodedEvent,
    Envelope,
    from_headers,
    is_json,
    to_headers,
)

_CANCEL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Item:
    type: str
    headers: Mapping[str, object]
    body: bytes
    history: History = field(default_factory=History)
    place: int = 0


@dataclass(eq=False)
class _Queue:
    """Items in order, and the event that wakes the readers."""

    types: frozenset[str] | None
    items: deque[_Item] = field(default_factory=deque)
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    places: Iterator[int] = field(default_factory=count)

    def put(self, item: _Item) -> None:
        self.items.append(replace(item, place=next(self.places)))
        self.filled.set()

    def put_back(self, item: _Item) -> None:
        """Back to the place that it had before its delivery."""
        behind = (index for index, other in enumerate(self.items) if other.place > item.place)
        self.items.insert(next(behind, len(self.items)), item)
        self.filled.set()

    async def get(self) -> _Item:
        while not self.items:
            self.filled.clear()
            await self.filled.wait()
        return self.items.popleft()


class MemoryBroker:
    """The server's side: one queue a service, queues of single replicas, dead letters."""

    def __init__(self) -> None:
        self.queues: dict[str, _Queue] = {}
        self.private: set[_Queue] = set()
        self.dead: dict[str, dict[str, DeadLetter]] = {}

    def publish(self, type_: str, headers: Mapping[str, object], body: bytes) -> None:
        """Give the event to every queue that takes its type."""
        for queue in (*self.queues.values(), *self.private):
            if queue.types is None or type_ in queue.types:
                queue.put(_Item(type_, headers, body))

    def queue_for(self, subscription: Subscription) -> _Queue:
        if subscription.mode == "every_replica":
            queue = _Queue(subscription.types)
            self.private.add(queue)
            return queue
        queue = self.queues.setdefault(subscription.service, _Queue(subscription.types))
        if queue.types is not None and subscription.types is not None:
            queue.types |= subscription.types
        return queue


class MemoryDelivery:
    def __init__(
        self,
        item: _Item,
        queue: _Queue,
        broker: MemoryBroker,
        settled: Callable[["MemoryDelivery"], None],
    ):
        self._item = item
        self._queue = queue
        self._broker = broker
        self._settled = settled
        self._open = True

    @property
    def headers(self) -> Mapping[str, object]:
        return self._item.headers

    @property
    def body(self) -> bytes:
        return self._item.body

    @property
    def history(self) -> History:
        return self._item.history

    def envelope(self) -> Envelope:
        return from_headers(self._item.headers, AMQP_PREFIX)

    def done(self) -> bool:
        return self._settle()

    async def later(self, delay: float, *, counted: bool) -> bool:
        item = self._item
        if counted:
            item = replace(item, history=item.history.failed(datetime.now(UTC)))
        if not self._settle():
            return False
        asyncio.get_running_loop().call_later(delay, self._queue.put, item)
        return True

    async def dead(self, failure: Failure) -> bool:
        if not self._settle():
            return False
        if self._queue not in self._broker.private:
            item = self._item
            replays = item.history.replays
            id_ = letter_id(failure.service, item.headers, item.body, replays)
            json = is_json(item.headers.get("content-type"))
            letter = DeadLetter(id_, item.headers, item.body, item.type, failure, replays, json)
            self._broker.dead.setdefault(failure.service, {}).setdefault(id_, letter)
        return True

    async def hand_back(self) -> bool:
        if not self._settle():
            return False
        self._queue.put_back(self._item)
        return True

    def _settle(self) -> bool:
        was_open, self._open = self._open, False
        if was_open:
            self._settled(self)
        return was_open

    def abandon(self) -> None:
        """The connection is gone: the broker delivers the message to another replica."""
        if self._settle():
            self._queue.put_back(self._item)


class MemoryBus:
    system = "memory"

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()
        self._subscriptions: list[tuple[Subscription, OnDelivery]] = []
        self._queues: list[_Queue] = []
        self._pumps: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()
        self._unsettled: set[MemoryDelivery] = set()
        self._started = False
        self._running = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._started

    @property
    def consuming(self) -> bool:
        return self._started and self._running.is_set()

    def subscribe(self, subscription: Subscription, on_delivery: OnDelivery) -> None:
        self._subscriptions.append((subscription, on_delivery))

    async def start(self) -> None:
        self._started = True
        self._running.set()
        for subscription, on_delivery in self._subscriptions:
            queue = self.broker.queue_for(subscription)
            self._queues.append(queue)
            self._pumps.append(
                asyncio.create_task(self._pump(queue, subscription.prefetch, on_delivery))
            )

    async def wait_ready(self) -> None:
        await self._running.wait()

    async def publish(self, message: EncodedEvent) -> None:
        headers = to_headers(message.envelope, AMQP_PREFIX) | {"content-type": CONTENT_TYPE}
        self.broker.publish(message.envelope.type, headers, message.body)

    async def pause(self) -> None:
        self._running.clear()

    async def resume(self) -> None:
        self._running.set()

    async def sweep(self, service: str, decide: Callable[[DeadLetter], Awaitable[Verdict]]) -> None:
        letters = self.broker.dead.setdefault(service, {})
        for letter in list(letters.values()):
            verdict = await decide(letter)
            if verdict is Verdict.REPLAY:
                queue = self.broker.queues.setdefault(service, _Queue(frozenset()))
                history = History(replays=letter.replays).replayed()
                queue.put(_Item(letter.type, letter.headers, letter.body, history))
            if verdict is not Verdict.KEEP:
                letters.pop(letter.id, None)

    async def backlog(self, service: str) -> Backlog:
        queue = self.broker.queues.get(service)
        return Backlog(
            0 if queue is None else len(queue.items), len(self.broker.dead.get(service, {}))
        )

    async def close(self) -> None:
        self._started = False
        self._running.clear()
        tasks: list[asyncio.Task[Any]] = [*self._pumps, *self._handling]
        for task in tasks:
            task.cancel()
        if tasks:  # not for ever: a handler may ignore that it is cancelled
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        for delivery in list(self._unsettled):
            delivery.abandon()
        self.broker.private.difference_update(self._queues)

    async def _pump(self, queue: _Queue, prefetch: int, on_delivery: OnDelivery) -> None:
        slots = asyncio.Semaphore(prefetch)

        def settled(delivery: MemoryDelivery) -> None:
            self._unsettled.discard(delivery)
            slots.release()

        while True:
            await self._running.wait()
            await slots.acquire()
            item = await queue.get()
            if not self._running.is_set():
                queue.put_back(item)
                slots.release()
                continue
            delivery = MemoryDelivery(item, queue, self.broker, settled)
            self._unsettled.add(delivery)
            task = asyncio.create_task(_run(on_delivery, delivery))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)


async def _run(on_delivery: OnDelivery, delivery: MemoryDelivery) -> None:
    await on_delivery(delivery)

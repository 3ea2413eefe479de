"""Gathers the events of one handler into batches.

To the rest of the chassis a batch handler is a handler of single events: `join` is called with one
event under its claim, and ends when the batch with this event has ended. Claims, leases, retries,
dead letters and publishing are those of single events. Knows no store and no broker.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context as Variables
from typing import Any

from chassis.batches.batch import Batch, Item
from chassis.context import Context
from chassis.handling.attempts import HandlerTimeout
from chassis.handling.endings import Interrupted
from chassis.telemetry.logs import handling

Handler = Callable[[Batch[Any]], Awaitable[None]]


class Collector:
    """Calls `handler` with at most `size` events, the first of which waited for at most `wait`
    seconds (None: until `flush`).

    `timeout` in seconds, set by `named`, is the handler's time. `observe` is told the size of each
    batch. An event that has failed before comes alone: one event that makes the handler raise must
    not take the others to the dead letters.
    """

    def __init__(
        self,
        handler: Handler,
        name: str,
        *,
        size: int,
        wait: float | None,
        timeout: float,
        named: str,
        observe: Callable[[float], None],
    ) -> None:
        self._handler = handler
        self._name = name
        self._size = size
        self._wait = wait
        self._timeout = timeout
        self._named = named
        self._observe = observe
        self._gathered: dict[_Joined, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self.in_hand = 0
        """Events that wait for their batch or are in one."""
        self.on_join: Callable[[], None] = lambda: None
        """Called when an event has joined."""

    async def join(self, event: Any, ctx: Context) -> None:
        """Return when the batch with `event` has ended and the event is done.

        Otherwise raises what the handler said of it, or what the handler raised.
        """
        joined = _Joined(Item(event, ctx))
        self.in_hand += 1
        try:
            self._take(joined)
            self.on_join()
            error = await joined.end
        except asyncio.CancelledError:
            self._gathered.pop(joined, None)
            if joined.run is not None:  # its claim may be another replica's by now
                joined.run.cancel()
            raise
        finally:
            self.in_hand -= 1
        if error is not None:
            # One exception for all events: each raise would make its stack longer.
            raise error.with_traceback(joined.stack)

    def flush(self) -> None:
        """Begin the batch with what there is, if anything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            gathered, self._gathered = list(self._gathered), {}
            self._begin(gathered)

    def close(self) -> None:
        """The service drains: nothing further is waited for."""
        self._wait = 0.0
        self.flush()

    def _take(self, joined: "_Joined") -> None:
        if joined.item.ctx.attempt > 1:
            self._begin([joined])
            return
        self._gathered[joined] = None
        if len(self._gathered) >= self._size:
            self.flush()
        elif self._timer is None and self._wait is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._wait, self.flush, context=Variables())

    def _begin(self, joined: Sequence["_Joined"]) -> None:
        # A context of its own, not the context of one event.
        run = asyncio.create_task(self._run(joined), context=Variables())
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        for each in joined:
            each.run = run

    async def _run(self, joined: Sequence["_Joined"]) -> None:
        batch = Batch([each.item for each in joined])
        self._observe(len(batch))
        handling.set(_Fields(self._name, len(batch)))
        error: BaseException | None = None
        try:
            async with asyncio.timeout(self._timeout) as time:
                await self._handler(batch)
            if time.expired():  # the handler swallowed the cancellation
                raise TimeoutError
        except asyncio.CancelledError:
            error = Interrupted("another event of its batch was taken away")
        except Exception as raised:  # noqa: BLE001 - each event's attempt judges it
            error = raised
            if isinstance(raised, TimeoutError) and time.expired():
                error = HandlerTimeout(
                    f"the handler took longer than {self._timeout:g} s ({self._named})"
                )
        undone = batch.in_transaction and error is not None
        for each in joined:
            each.finish(each.item.verdict if each.item.settled and not undone else error)


class _Joined:
    """An event that waits for the end of its batch."""

    def __init__(self, item: Item[Any]) -> None:
        self.item = item
        self.end: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.run: asyncio.Task[None] | None = None
        self.stack: Any = None

    def finish(self, error: BaseException | None) -> None:
        if not self.end.done():
            self.stack = None if error is None else error.__traceback__
            self.end.set_result(error)


class _Fields:
    """What each log line says that is written while a batch is handled."""

    def __init__(self, handler: str, events: int) -> None:
        self._fields: Mapping[str, object] = {"handler": handler, "batch": events}

    def log_fields(self) -> Mapping[str, object]:
        return self._fields

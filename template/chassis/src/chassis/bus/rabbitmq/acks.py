"""Acknowledging many deliveries with few frames.

`AckTracker` decides which delivery tags go into one frame and knows no channel; `Acknowledger`
writes the frames for one channel. Delivery tags of a channel are 1, 2, 3 and so on. `multiple`
acknowledges everything up to a tag, so every delivery below that tag must be settled.
"""

import asyncio
from collections import deque
from typing import NamedTuple

import structlog
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelInvalidStateError

from chassis.bus import BusMetrics

FLUSH_SECONDS = 0.005
LARGEST_BATCH = 50

_log = structlog.get_logger(__name__)


class Ack(NamedTuple):
    """One frame: acknowledge `tag`, with `multiple` all below it too; `deliveries` in total."""

    tag: int
    multiple: bool
    deliveries: int


class AckTracker:
    """Collects settled delivery tags and turns them into few frames.

    A slow delivery ends the contiguous run. Deliveries done above it are acknowledged one by one, a
    flush later: otherwise one slow handler would use up the prefetch.
    """

    def __init__(self) -> None:
        self._settled_up_to = 0
        self._done: set[int] = set()
        self._settled_otherwise: set[int] = set()
        self._overtaking: set[int] = set()

    @property
    def waiting(self) -> bool:
        """Whether a done delivery is in no frame yet."""
        return bool(self._done)

    def done(self, tag: int) -> None:
        """Acknowledge `tag` with one of the next frames."""
        self._done.add(tag)

    def settled_otherwise(self, tag: int) -> None:
        """`tag` was given back: the run may pass over it, but must not end at it."""
        self._settled_otherwise.add(tag)

    def take(self, *, all_of_them: bool = False) -> list[Ack]:
        """The frames to write now: the contiguous run, and tags above it since the last call.

        `all_of_them` leaves nothing waiting.
        """
        acks = self._contiguous_run()
        late = self._done if all_of_them else self._done & self._overtaking
        acks.extend(Ack(tag, multiple=False, deliveries=1) for tag in sorted(late))
        self._settled_otherwise |= late
        self._done = self._done - late
        self._overtaking = set(self._done)
        return acks

    def _contiguous_run(self) -> list[Ack]:
        tag, last, count = self._settled_up_to + 1, 0, 0
        while True:
            if tag in self._done:
                self._done.remove(tag)
                last, count = tag, count + 1
            elif tag in self._settled_otherwise:
                self._settled_otherwise.remove(tag)
            else:
                break
            tag += 1
        self._settled_up_to = tag - 1
        return [Ack(last, multiple=True, deliveries=count)] if count else []


class Acknowledger:
    """Settles the deliveries of one channel, in batches. Once the channel is lost, it does nothing.

    A batch goes out when it is full or FLUSH_SECONDS old. It is at most half of `prefetch`, so the
    broker always has room to send more.
    """

    def __init__(self, channel: AbstractChannel, prefetch: int, metrics: BusMetrics) -> None:
        self._channel = channel
        self._metrics = metrics
        self._batch = max(1, min(LARGEST_BATCH, prefetch // 2))
        self._tracker = AckTracker()
        self._returned: deque[int] = deque()
        self._unwritten = 0
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._writer = self._loop.create_task(self._write_when_due())

    def done(self, tag: int) -> None:
        """Acknowledge `tag` soon."""
        self._tracker.done(tag)
        self._unwritten += 1
        if self._unwritten >= self._batch:
            self._due.set()
        elif self._timer is None and not self._closing:
            self._timer = self._loop.call_later(FLUSH_SECONDS, self._due.set)

    def hand_back(self, tag: int) -> None:
        """Give `tag` back to the broker at once."""
        self._returned.append(tag)
        self._due.set()

    async def close(self) -> None:
        """Write waiting frames and give back unsettled deliveries; return once both are sent."""
        self._closing = True
        self._due.set()
        await self._writer
        if self._channel.is_closed:
            return
        try:
            await self._write(all_of_them=True)
            await self._channel.basic_nack(0, multiple=True, requeue=True)
        except ChannelInvalidStateError:
            _log.debug(
                "the channel was lost while closing; "
                "the broker delivers unacknowledged messages again"
            )

    def abandon(self) -> None:
        """The channel is lost: the broker delivers unacknowledged messages again."""
        self._closing = True
        self._cancel_timer()
        self._writer.cancel()

    async def _write_when_due(self) -> None:
        while not self._closing:
            await self._due.wait()
            self._due.clear()
            self._cancel_timer()
            self._unwritten = 0
            try:
                await self._write()
            except ChannelInvalidStateError:
                return
            if self._tracker.waiting and self._timer is None:
                self._timer = self._loop.call_later(FLUSH_SECONDS, self._due.set)
        self._cancel_timer()

    async def _write(self, *, all_of_them: bool = False) -> None:
        """Write hand-backs first, in their order.

        Until the broker knows of a hand-back, a frame for many would acknowledge that delivery too.
        """
        while self._returned:
            tag = self._returned.popleft()
            await self._channel.basic_nack(tag, requeue=True, wait=False)
            self._tracker.settled_otherwise(tag)
        for ack in self._tracker.take(all_of_them=all_of_them):
            await self._channel.basic_ack(ack.tag, multiple=ack.multiple, wait=False)
            self._metrics.acknowledged(ack.deliveries)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

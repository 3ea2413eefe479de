"""Publishes events without an end, until the caller says that it is enough. Uses no chassis."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from tests.e2e.publishers import bare_publisher, signed_up

BATCH = 20


async def publish_until_confirmed(bus_url: str, events: Sequence[tuple[str, bytes]]) -> None:
    """Publish each event, in order; again and again while the broker does not confirm it."""
    left = list(reversed(events))
    while left:
        try:
            async with bare_publisher(bus_url) as publisher:
                while left:
                    async with asyncio.timeout(5):
                        await publisher.publish(*left[-1])
                    left.pop()
        except Exception:  # noqa: BLE001 - each client has its own error for a broker that is away
            await asyncio.sleep(0.3)


@contextmanager
def load(bus_url: str, handled: Callable[[], int], *, backlog: int = 100) -> Iterator[list[str]]:
    """Yield the growing list of confirmed events' ids. About `backlog` events wait at most."""
    enough = threading.Event()
    confirmed: list[str] = []

    async def publish() -> None:
        numbers = count()
        while not enough.is_set():
            if len(confirmed) - handled() > backlog:
                await asyncio.sleep(0.05)
                continue
            batch = [f"e-{next(numbers)}" for _ in range(BATCH)]
            await publish_until_confirmed(bus_url, [(id_, signed_up(id_)) for id_ in batch])
            confirmed.extend(batch)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="load")
    thread.start()
    publishing = asyncio.run_coroutine_threadsafe(publish(), loop)
    try:
        yield confirmed
        enough.set()
        publishing.result()
    finally:
        # If the caller failed, it still runs, and nobody may be left to confirm.
        publishing.cancel()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

"""Ending a task that may swallow a cancellation.

`asyncio.wait_for` can swallow one on Python 3.11, and the clients of brokers and stores use it.
Some clients also catch cancellations on their own.
"""

import asyncio

AGAIN_SECONDS = 1.0


async def cancel(task: asyncio.Task[None], again: float = AGAIN_SECONDS) -> None:
    """Cancel `task` until it has ended, once more every `again` seconds."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=again)

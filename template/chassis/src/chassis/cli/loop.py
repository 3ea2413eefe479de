"""The event loop of a command: uvloop if installed, and an end that no handler can prevent."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

import structlog

CANCEL_SECONDS = 2.0

_log = structlog.get_logger(__name__)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end, and cancel what it leaves behind."""
    try:
        import uvloop
    except ModuleNotFoundError:  # not on every platform
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
        if left := runner.run(_cancel_the_rest()):  # the runner would wait for them without end
            _log.error("handlers that ignore their cancellation are left behind", count=left)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


async def _cancel_the_rest() -> int:
    """Cancel every other task; returns how many do not end by it."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    return len((await asyncio.wait(rest, timeout=CANCEL_SECONDS))[1]) if rest else 0

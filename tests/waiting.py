"""Waiting for something that tells nobody when it happens. Patience is never a measure of speed."""

import asyncio
from collections.abc import Callable
from time import monotonic, sleep

PATIENCE = 20.0
"""Seconds until a test within one process gives up."""
PATIENCE_WITH_PROCESSES = 60.0
"""Seconds until a test of several processes gives up."""


async def eventually(true: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Return when `true` is; raise TimeoutError after `patience` seconds."""
    async with asyncio.timeout(patience):
        while not true():
            await asyncio.sleep(0.005)


def happens(true: Callable[[], bool], patience: float) -> bool:
    """Whether `true` gets true within `patience` seconds."""
    deadline = monotonic() + patience
    while not true():
        if monotonic() >= deadline:
            return False
        sleep(0.05)
    return True


def until(
    true: Callable[[], bool],
    what: Callable[[], str] | str,
    patience: float = PATIENCE_WITH_PROCESSES,
) -> None:
    """Return when `true` is; otherwise say `what` did not happen."""
    if not happens(true, patience):
        said = what if isinstance(what, str) else what()
        raise AssertionError(f"{said} did not happen within {patience:g} s")

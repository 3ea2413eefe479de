"""Repeats work once if the cache was damaged meanwhile. Knows the cache and nothing of the work."""

from collections.abc import Callable
from typing import TypeVar

from dockyard.programs.cache import BrokenCache
from dockyard.programs.git import GitFailed
from dockyard.rendering import render, source

Result = TypeVar("Result")


def healed(work: Callable[[], Result]) -> Result:
    """What `work` gives. If it fails and the cache is damaged, `work` is done once more.

    `work` must be all or nothing. Raises what `work` raises.
    """
    try:
        return work()
    except (GitFailed, BrokenCache):
        # Both are looked at: each mends what it finds.
        is_damaged = [render.forget_damaged(), source.forget_damaged()]
        if not any(is_damaged):
            raise
        return work()

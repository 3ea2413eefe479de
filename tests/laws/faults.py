"""Breaks an update at one of its steps: a git process, or a file that is moved. Knows where Dockyard's steps are."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import ParamSpec, TypeVar

import pytest

from dockyard import git, worktree

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, of these tests."""


def full_disk() -> None:
    """What the operating system says when there is no more space."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt() -> None:
    """Ctrl-C between two steps."""
    raise Interrupted


def kill() -> None:
    """End this process as `kill -9` does: nothing is tidied up."""
    os._exit(9)


@contextmanager
def at_step(number: int, fault: Callable[[], None]) -> Iterator[None]:
    """Call `fault` instead of the step with this number, counted from 0."""
    steps = count()

    def faulty(step: Callable[_P, _T]) -> Callable[_P, _T]:
        def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            if next(steps) == number:
                fault()
            return step(*args, **kwargs)

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(git, "_finished", faulty(git._finished))
        patch.setattr(worktree, "_rename", faulty(worktree._rename))
        yield


def survived(work: Callable[[], object]) -> bool:
    """Whether a process of its own that does `work` ended by itself. Raises what made it fail otherwise."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0

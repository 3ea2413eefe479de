"""Breaks an update at one of its steps: a git process, or a file that is moved."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import ParamSpec, TypeVar

import pytest
from hypothesis import strategies as st

from dockyard.programs import git
from dockyard.updating import worktree

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


@dataclass(frozen=True)
class Step:
    """A step, counted from 0: of all steps, or with `is_move` of the moves of a service's files."""

    number: int
    is_move: bool


# Most steps come before the first file moves, and there is nothing to undo yet.
STEPS = st.one_of(
    st.builds(Step, st.integers(0, 70), st.just(False)),
    st.builds(Step, st.integers(0, 5), st.just(True)),
)


@contextmanager
def at(wanted: Step, fault: Callable[[], None]) -> Iterator[None]:
    """Call `fault` instead of the step `wanted`, if there are so many."""
    steps = count()

    def faulty(step: Callable[_P, _T]) -> Callable[_P, _T]:
        def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            if next(steps) == wanted.number:
                fault()
            return step(*args, **kwargs)

        return run

    with pytest.MonkeyPatch.context() as patch:
        if not wanted.is_move:
            patch.setattr(git, "_finished", faulty(git._finished))
        patch.setattr(worktree, "_rename", faulty(worktree._rename))
        yield


def survived(work: Callable[[], object]) -> bool:
    """Whether a child process that does `work` ended by itself. Raises what `work` raises there."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0

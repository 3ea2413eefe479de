"""Breaks an update at one of its steps: a git process, or a file that is moved."""

import errno
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
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


def damage(cache: Path, seed: int, share: float) -> None:
    """Delete, empty or garble a `share` of all files in `cache`, chosen by `seed`."""
    chance = random.Random(seed)
    for file in sorted(path for path in cache.rglob("*") if path.is_file()):
        if chance.random() < share:
            harm = chance.choice(["delete", "empty", "garble"])
            if harm == "delete":
                file.unlink()
            else:
                content = file.read_bytes() if harm == "garble" else b""
                file.chmod(0o644)
                file.write_bytes(content[: len(content) // 2] + b"\0" * (harm == "garble"))


@contextmanager
def configured(settings: Mapping[str, str]) -> Iterator[None]:
    """Let the environment give git these `settings`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
        for number, (key, value) in enumerate(settings.items()):
            patch.setenv(f"GIT_CONFIG_KEY_{number}", key)
            patch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
        yield


HOSTILE = {
    "core.eol": ["crlf", "native"],
    "core.quotePath": ["false"],
    "diff.algorithm": ["patience", "minimal"],
    "diff.noprefix": ["true"],
    "diff.renames": ["copies", "false"],
    "merge.conflictStyle": ["diff3", "zdiff3"],
    "merge.default": ["union", "ours"],
    "merge.directoryRenames": ["true", "false"],
    "merge.renameLimit": ["1"],
    "merge.renames": ["false"],
    "merge.renormalize": ["true"],
}
"""Settings that change what some git command merges or says."""


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

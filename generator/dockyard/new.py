"""Lays down a new service: rendered, locked, its contracts' code generated, committed. Or nothing.

All work happens in a temporary folder beside the destination; one rename at the end makes it real.
Prints nothing: `progress` is told what begins.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dockyard.errors import (
    BadName,
    CannotWrite,
    NameGivenTwice,
    NameTaken,
    UnknownQuestion,
)
from dockyard.programs import git, toolchain
from dockyard.programs.signals import uninterrupted
from dockyard.rendering.render import render
from dockyard.rendering.template import Template

_KEBAB_CASE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class NewService:
    """A service that was laid down."""

    path: Path
    template: Template
    branch: str
    fallback_identity: bool
    """Whether git knows no author, so that the first commit bears a neutral one."""


def place(name: str, into: Path) -> Path:
    """Where the service `name` goes in the folder `into`. Raises BadName and NameTaken."""
    if not _KEBAB_CASE.fullmatch(name):
        raise BadName(name)
    path = into.absolute() / name
    if os.path.lexists(path):
        raise NameTaken(path)
    return path


def open_questions(template: Template, data: Mapping[str, str]) -> list[str]:
    """The questions that `data` leaves open, besides the service's name.

    Raises UnknownQuestion and NameGivenTwice.
    """
    for question in data:
        if question == "service_name":
            raise NameGivenTwice
        if question not in template.questions:
            raise UnknownQuestion(question, template.source.recorded, template.questions)
    return [
        question
        for question in template.questions
        if question != "service_name" and question not in data
    ]


def create(
    path: Path,
    template: Template,
    data: Mapping[str, str],
    *,
    ask: bool,
    progress: Callable[[str], None],
) -> NewService:
    """Lay down a service at `path` from `template`. `ask` prompts for answers that `data` lacks.

    Raises BadAnswer, RenderFailed, ToolMissing, ToolFailed, CannotWrite and NameTaken. After an
    error, and after an interrupt, nothing is left behind.
    """
    existing = next(folder for folder in path.parents if os.path.lexists(folder))
    # Missing folders on the way are built in the workspace too: one rename brings them all.
    way = path.relative_to(existing)
    with _workspace(existing) as workspace:
        service = workspace / "tree" / way
        scratch = workspace / "copier"
        answers = {**data, "service_name": path.name}
        progress(f"rendering {template.source.recorded} at {template.version}")
        render(template, answers, service, ask=ask, scratch=scratch)
        progress("locking its dependencies with uv")
        toolchain.lock(service)
        if toolchain.has_contracts(service):
            progress("generating its contracts' code")
            toolchain.generate_contracts(service)
        progress("making its git repository")
        commit = git.first_commit(service, _message(path.name, template))
        try:
            (workspace / "tree" / way.parts[0]).rename(existing / way.parts[0])
        except OSError as error:
            raise (
                NameTaken(path) if os.path.lexists(path) else CannotWrite(path, error)
            ) from error
    return NewService(path, template, commit.branch, commit.fallback_identity)


def _message(name: str, template: Template) -> str:
    return (
        f"Lay down {name}\n\n"
        f"Template: {template.source.recorded}\n"
        f"Version: {template.version} ({template.commit})\n"
    )


@contextmanager
def _workspace(beside: Path) -> Iterator[Path]:
    try:
        workspace = Path(tempfile.mkdtemp(prefix=".dockyard-", dir=beside))
        try:
            yield workspace
        finally:
            _remove(workspace)
    except OSError as error:
        raise CannotWrite(beside, error) from error


def _remove(folder: Path) -> None:
    # A second Ctrl-C waits until everything is removed.
    with uninterrupted():
        # A program that was just killed may have written a last file behind the first pass.
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(folder)

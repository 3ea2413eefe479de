"""Takes in a service without an answers file: finds the version and the answers nearest to it.

Writes the answers file alone. Knows where versions are and what counts as near; knows nothing of
how the nearest is searched, of merging or of updates.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockyard.adopting.evidence import Likeness, share
from dockyard.adopting.search import Found, Search, Watch
from dockyard.answers import Recorded
from dockyard.errors import (
    BrokenAnswers,
    CannotApply,
    DockyardError,
    NotAService,
    UnknownQuestion,
)
from dockyard.programs import git
from dockyard.programs.scratch import write_whole
from dockyard.rendering.healing import healed
from dockyard.rendering.source import Source, locate
from dockyard.rendering.template import (
    Template,
    newest_commits,
    recorded_version,
    template_at,
)
from dockyard.service import Service, open_service, open_unrecorded
from dockyard.updating.scratch_repository import ScratchRepository, open_scratch

_MOST_RELEASES = 60
_MOST_COMMITS = 30
_NEAR_ENOUGH = 0.5
"""Share of the lines of managed files. Any two Python services have less in common."""


class RecordedAlready(DockyardError):
    """The service to adopt has a valid answers file."""

    def __init__(self, file: Path, version: str) -> None:
        super().__init__(
            f"{file} says already that {version} rendered this service: nothing to adopt. "
            "To replace what it says, add --force."
        )


class NothingNear(DockyardError):
    """No version of the template resembles the service."""

    def __init__(self, folder: Path, source: str, nearest: str) -> None:
        super().__init__(
            f"{folder} does not look like a service of {source}: {nearest}. "
            "Name another template with --template, give answers that you know with --data, "
            "or lay down a new service with `dockyard new` and move the code there."
        )


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was found, and unless it was a dry run written."""

    service: Service
    template: Template
    answers: Mapping[str, Any]
    managed: tuple[Likeness, ...]
    """Every managed file of the render."""
    candidates: int
    """How many versions were compared."""
    is_written: bool

    @property
    def share(self) -> float:
        """From 0 to 1: how many lines of managed files the service has unchanged."""
        return share(self.managed)

    @property
    def drifted(self) -> tuple[Likeness, ...]:
        """The managed files that are not as rendered."""
        return tuple(file for file in self.managed if not file.is_equal)


def adopt(
    path: Path,
    source: str,
    data: Mapping[str, str] | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    watch: Watch = iter,
) -> Adopted:
    """Find what rendered the service in `path`, as committed, and write its answers file.

    `source` is the template, `data` are answers that are known. Raises RecordedAlready without
    `force` if there is a valid answers file, NothingNear, UnknownQuestion, NotAService,
    CannotApply, and what `source.locate` raises.
    """
    if not force:
        _refuse_recorded(path)
    located = locate(source)
    newest = template_at(located)
    for question in data or {}:
        if question not in newest.questions:
            raise UnknownQuestion(question, located.recorded, newest.questions)
    recorded = Recorded(located.recorded, recorded_version(newest), {}, newest.answers_file)
    service = open_unrecorded(path, recorded)
    versions = _versions(located)

    def searched() -> Found:
        with open_scratch(service) as scratch:
            search = Search(scratch, service, data or {}, watch)
            found = search.nearest(newest, versions)
            if found is None or share(found.managed) < _NEAR_ENOUGH:
                raise NothingNear(service.root, located.recorded, _how_far(found))
            if not dry_run:
                _write(scratch, service, found)
            return found

    found = healed(searched)
    return Adopted(
        service, found.template, found.render.answers, found.managed, len(versions), not dry_run
    )


def _refuse_recorded(path: Path) -> None:
    try:
        service = open_service(path)
    except (NotAService, BrokenAnswers):
        # Without an answers file, or with a broken one: `adopt` mends just that.
        return
    raise RecordedAlready(service.root / service.recorded.file, service.recorded.version)


def _versions(source: Source) -> dict[str, Template]:
    """The newest versions of `source` by commit, the newest first."""
    commits = newest_commits(source, releases=_MOST_RELEASES, commits=_MOST_COMMITS)
    return {template.commit: template for template in _usable(source, commits)}


def _usable(source: Source, commits: Iterable[str]) -> Iterator[Template]:
    for commit in commits:
        try:
            yield template_at(source, commit)
        except DockyardError:
            # A commit from before the repository was a template.
            continue


def _how_far(found: Found | None) -> str:
    if found is None:
        return "no version of it can be rendered"
    lines = f"{share(found.managed):.0%} of the lines in common"
    return f"the nearest, {found.template.version}, has {lines}"


def _write(scratch: ScratchRepository, service: Service, found: Found) -> None:
    """Write the answers file exactly as the render has it."""
    file = service.recorded.file
    blob = ("cat-file", "blob", f"{found.render.tree}:{file}")
    try:
        write_whole(service.root / file, git.output(*blob, folder=scratch.folder, env=scratch.env))
    except OSError as error:
        raise CannotApply(service.root, error.strerror or str(error)) from error

"""Takes in a service without an answers file: finds the version and the answers nearest to it.

Searches the answers at one version, then the version with these answers, until neither changes.
Writes the answers file alone. Knows how renders are made and compared; knows nothing of merging or
of updates.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockyard.adopting.evidence import Likeness, Shelf, likeness, nearness, readings, share
from dockyard.answers import Recorded
from dockyard.errors import (
    BrokenAnswers,
    CannotApply,
    DockyardError,
    NotAService,
    UnknownQuestion,
)
from dockyard.programs import git
from dockyard.programs.cache import CannotCache
from dockyard.programs.scratch import write_whole
from dockyard.programs.tree import Entries
from dockyard.rendering.healing import healed
from dockyard.rendering.render import Render, render_tree
from dockyard.rendering.source import Source, locate
from dockyard.rendering.template import (
    Template,
    newest_commits,
    recorded_version,
    template_at,
)
from dockyard.service import Service, files, open_service, open_unrecorded
from dockyard.updating.merge import owned
from dockyard.updating.scratch_repository import ScratchRepository, open_scratch

_MOST_RELEASES = 60
_MOST_COMMITS = 30
_MOST_ROUNDS = 4
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


@dataclass(frozen=True, slots=True)
class _Found:
    template: Template
    answers: Mapping[str, Any]
    """The answers that were searched for. The template's defaults answer the others."""
    render: Render
    managed: tuple[Likeness, ...]
    nearness: int


Watch = Callable[[Sequence[Template]], Iterable[Template]]
"""Gives the versions one by one, while they are compared: a place for a progress bar."""


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

    def searched() -> _Found:
        with open_scratch(service) as scratch:
            search = _Search(scratch, service, data or {}, watch)
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


class _Search:
    """Tries renders of one service, and compares them with what it has."""

    def __init__(
        self, scratch: ScratchRepository, service: Service, data: Mapping[str, str], watch: Watch
    ) -> None:
        self._scratch, self._service, self._data, self._watch = scratch, service, data, watch
        self._shelf = Shelf(scratch)
        self._present: Entries = {
            path: entry for path, entry in files(service).items() if path != service.recorded.file
        }
        scratch.need(self._present.values())

    def nearest(self, start: Template, versions: Mapping[str, Template]) -> _Found | None:
        """The nearest render, None if none can be made. The first answers are read at `start`."""
        best = self._answered(start, {})
        for _ in range(_MOST_ROUNDS):
            known = best.answers if best else {}
            tried = [self._tried(template, known) for template in self._watch([*versions.values()])]
            # Of equals the first, which is the newest.
            nearer = max(
                (each for each in (best, *tried) if each),
                key=lambda each: each.nearness,
                default=None,
            )
            if nearer is None or (
                best is not None and nearer.template.commit == best.template.commit
            ):
                return nearer
            best = self._answered(nearer.template, nearer.answers)
        return best

    def _answered(self, template: Template, known: Mapping[str, Any]) -> _Found | None:
        """The nearest answers at this version, question by question, until none comes nearer."""
        options = self._options(template)
        best = self._tried(template, known)
        for _ in range(_MOST_ROUNDS):
            before = best
            for question, values in options.items():
                for value in values:
                    tried = self._tried(
                        template, {**(best.answers if best else known), question: value}
                    )
                    if tried and (best is None or tried.nearness > best.nearness):
                        best = tried
            if best is before:
                break
        return best

    def _options(self, template: Template) -> dict[str, list[Any]]:
        """Possible answers to each question: its choices, or what the service's files say."""
        options: dict[str, list[Any]] = {}
        marks: dict[str, str] = {}
        for question in template.questions:
            details = template.config.get(question)
            details = details if isinstance(details, dict) else {}
            if question in self._data or details.get("multiselect"):
                continue
            choices = details.get("choices")
            if choices:
                options[question] = list(choices.values() if isinstance(choices, dict) else choices)
            elif details.get("type") == "bool":
                options[question] = [True, False]
            elif details.get("type", "str") == "str":
                marks[question] = f"mark{len(marks)}ofanswer"
        return {**self._read(template, marks), **options}

    def _read(self, template: Template, marks: Mapping[str, str]) -> dict[str, list[Any]]:
        options: dict[str, list[Any]] = {question: [] for question in marks}
        # As data: a mark that the template refuses is then an error, not silently its default.
        marked = self._render(template, {**self._data, **marks}, data=True)
        if marked is not None:
            for question, values in readings(
                self._shelf, self._scratch.entries(marked.tree), self._present, marks
            ).items():
                options[question] += [
                    other for value in values for other in (value, value.replace("_", "-"))
                ]
        if "service_name" in options:
            options["service_name"].append(self._service.root.name)
        return {question: list(dict.fromkeys(values)) for question, values in options.items()}

    def _tried(self, template: Template, answers: Mapping[str, Any]) -> _Found | None:
        render = self._render(template, answers)
        if render is None:
            return None
        is_yours = owned(template.yours)
        rendered = {
            path: entry
            for path, entry in self._scratch.entries(render.tree).items()
            if path != self._service.recorded.file
        }
        compared = likeness(self._shelf, rendered, self._present)
        managed = tuple(file for file in compared if not is_yours(file.path))
        return _Found(template, answers, render, managed, nearness(compared))

    def _render(
        self, template: Template, answers: Mapping[str, Any], *, data: bool = False
    ) -> Render | None:
        """None if the template does not accept the answers, or cannot be rendered at all."""
        known = self._service.recorded
        recorded = Recorded(
            known.source, recorded_version(template), {} if data else answers, known.file
        )
        given = answers if data else self._data
        asked = {
            question: answer for question, answer in given.items() if question in template.questions
        }
        try:
            return render_tree(template, recorded, self._service.root.name, asked)
        except CannotCache:
            raise
        except DockyardError:
            # A version that cannot be rendered did not render the service.
            return None


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


def _how_far(found: _Found | None) -> str:
    if found is None:
        return "no version of it can be rendered"
    lines = f"{share(found.managed):.0%} of the lines in common"
    return f"the nearest, {found.template.version}, has {lines}"


def _write(scratch: ScratchRepository, service: Service, found: _Found) -> None:
    """Write the answers file exactly as the render has it."""
    file = service.recorded.file
    blob = ("cat-file", "blob", f"{found.render.tree}:{file}")
    try:
        write_whole(service.root / file, git.output(*blob, folder=scratch.folder, env=scratch.env))
    except OSError as error:
        raise CannotApply(service.root, error.strerror or str(error)) from error

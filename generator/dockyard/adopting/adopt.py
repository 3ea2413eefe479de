"""Takes in a service that never had an answers file, or lost it: finds the version and the answers that are nearest.

Answers are searched at one version, then versions with these answers, until neither changes. Writes the answers file
alone. Knows how renders are made and compared; knows nothing of merging or of updates.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockyard.adopting.evidence import Likeness, Shelf, likeness, nearness, readings, share
from dockyard.errors import (
    BrokenAnswers,
    CannotCache,
    DockyardError,
    NotAService,
    NothingNear,
    RecordedAlready,
    UnknownQuestion,
)
from dockyard.hindrances import CannotApply
from dockyard.programs import git
from dockyard.programs.tree import Entries
from dockyard.rendering.render import Recorded, Render, render_tree
from dockyard.rendering.source import Source, locate
from dockyard.rendering.template import (
    Template,
    newest_first,
    recorded_version,
    template_at,
    version_tags,
)
from dockyard.service import Service, files, open_service, open_unrecorded
from dockyard.updating.merge import owned
from dockyard.updating.scratch_repository import Bench, open_bench

_MOST_RELEASES = 60
_MOST_COMMITS = 30
_MOST_ROUNDS = 4
_NEAR_ENOUGH = 0.5
"""Of the lines of managed files: below it the resemblance is that of any two Python services."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was found, and written unless it was a dry run."""

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
        """From 0 to 1: how many of the lines of managed files the service has just so."""
        return share(self.managed)

    @property
    def drifted(self) -> tuple[Likeness, ...]:
        """The managed files that are not as rendered."""
        return tuple(file for file in self.managed if not file.is_equal)


@dataclass(frozen=True, slots=True)
class _Found:
    template: Template
    answers: Mapping[str, Any]
    """Those that were searched for; the template's defaults answer the others."""
    render: Render
    managed: tuple[Likeness, ...]
    nearness: int


Watch = Callable[[Sequence[Template]], Iterable[Template]]
"""Gives the versions one by one, as they are compared: a place for a progress bar."""


def adopt(
    path: Path,
    source: str,
    data: Mapping[str, str] | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    watch: Watch = iter,
) -> Adopted:
    """Find what of the template at `source` rendered the service in `path`, as committed, and write its answers file.

    `data` are answers that are known. Raises RecordedAlready when a valid answers file is there and `force` is not
    given, NothingNear, UnknownQuestion, NotAService, CannotApply, and what `source.locate` raises.
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
    with open_bench(service) as bench:
        search = _Search(bench, service, data or {}, watch)
        found = search.nearest(newest, versions)
        if found is None or share(found.managed) < _NEAR_ENOUGH:
            raise NothingNear(service.root, located.recorded, _how_far(found))
        if not dry_run:
            _write(bench, service, found)
    return Adopted(
        service, found.template, found.render.answers, found.managed, len(versions), not dry_run
    )


class _Search:
    """Renders of one service that are tried, compared with what it has."""

    def __init__(
        self, bench: Bench, service: Service, data: Mapping[str, str], watch: Watch
    ) -> None:
        self._bench, self._service, self._data, self._watch = bench, service, data, watch
        self._shelf = Shelf(bench)
        self._present: Entries = {
            path: entry for path, entry in files(service).items() if path != service.recorded.file
        }

    def nearest(self, start: Template, versions: Mapping[str, Template]) -> _Found | None:
        """The nearest render of all, None when none can be made; `start` is where the answers are read first."""
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
        """The nearest answers at this version: question by question, until no other answer comes nearer."""
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
        """What each question may have been answered: its choices, or what the service's files say."""
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
        # As data, so that a mark that the template refuses is an error and not silently its default.
        marked = self._render(template, {**self._data, **marks}, data=True)
        if marked is not None:
            for question, values in readings(
                self._shelf, self._bench.entries(marked.tree), self._present, marks
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
            for path, entry in self._bench.entries(render.tree).items()
            if path != self._service.recorded.file
        }
        compared = likeness(self._shelf, rendered, self._present)
        managed = tuple(file for file in compared if not is_yours(file.path))
        return _Found(template, answers, render, managed, nearness(compared))

    def _render(
        self, template: Template, answers: Mapping[str, Any], *, data: bool = False
    ) -> Render | None:
        """None when the template does not accept the answers, or cannot be rendered at all."""
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
            # What cannot be rendered is not what rendered the service; when nothing can, NothingNear says so.
            return None


def _refuse_recorded(path: Path) -> None:
    try:
        service = open_service(path)
    except (NotAService, BrokenAnswers):
        # Without an answers file, or with one that nobody can use: just what is to be mended.
        return
    raise RecordedAlready(service.root / service.recorded.file, service.recorded.version)


def _versions(source: Source) -> dict[str, Template]:
    """The newest releases of `source`, or without any its newest commits, by commit, the newest first."""
    commits = [tag.commit for tag in newest_first(version_tags(source))[:_MOST_RELEASES]]
    if not commits:
        limit = f"--max-count={_MOST_COMMITS}"
        commits = git.run(
            "rev-list", "--first-parent", limit, source.head, folder=source.repository
        ).split()
    return {template.commit: template for template in _usable(source, dict.fromkeys(commits))}


def _usable(source: Source, commits: Mapping[str, None]) -> Iterator[Template]:
    for commit in commits:
        try:
            yield template_at(source, commit)
        except DockyardError:
            # A commit from before the repository was a template.
            continue


def _how_far(found: _Found | None) -> str:
    if found is None:
        return "no version of it can be rendered"
    return f"the nearest, {found.template.version}, has {share(found.managed):.0%} of the lines in common"


def _write(bench: Bench, service: Service, found: _Found) -> None:
    """Write the answers file just as the render has it, whole or not at all."""
    file = service.recorded.file
    text = git.output(
        "cat-file", "blob", f"{found.render.tree}:{file}", folder=bench.folder, env=bench.env
    )
    target = service.root / file
    try:
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=".adopting-", delete=False
        ) as draft:
            try:
                draft.write(text)
                draft.flush()
                os.fsync(draft.fileno())
                Path(draft.name).chmod(0o644)
                Path(draft.name).replace(target)
            except BaseException:
                Path(draft.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CannotApply(service.root, error.strerror or str(error)) from error

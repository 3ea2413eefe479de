"""Searches the version and the answers whose render is nearest to a service.

Answers are searched at one version, then versions with these answers, until neither changes. Knows
how renders are made and compared; knows nothing of the answers file.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dockyard.adopting import marks
from dockyard.adopting.evidence import Likeness, Shelf, likeness, nearness, readings
from dockyard.answers import Recorded
from dockyard.errors import DockyardError
from dockyard.programs.cache import CannotCache
from dockyard.programs.tree import Entries
from dockyard.rendering.copying import BadAnswer
from dockyard.rendering.render import Render, render_tree
from dockyard.rendering.template import Template, recorded_version
from dockyard.service import Service, files
from dockyard.updating.merge import owned
from dockyard.updating.scratch_repository import ScratchRepository

_MOST_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Found:
    """A render, and how near it is."""

    template: Template
    answers: Mapping[str, Any]
    """The answers that were searched for. The template's defaults answer the others."""
    render: Render
    managed: tuple[Likeness, ...]
    """Every managed file of the render."""
    nearness: int


Watch = Callable[[Sequence[Template]], Iterable[Template]]
"""Gives the versions one by one, while they are compared: a place for a progress bar."""


class Search:
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

    def nearest(self, start: Template, versions: Mapping[str, Template]) -> Found | None:
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

    def _answered(self, template: Template, known: Mapping[str, Any]) -> Found | None:
        """The nearest answers at this version, question by question, until none comes nearer."""
        best = self._tried(template, known)
        for _ in range(_MOST_ROUNDS):
            before = best
            # Files that only some choices bring show further answers.
            read = self._read(template, best)
            together = {question: values[0] for question, values in read.items() if values}
            best = self._nearer(best, template, known, together)
            for question, values in {**read, **self._choices(template)}.items():
                for value in values:
                    best = self._nearer(best, template, known, {question: value})
            if best is before:
                break
        return best

    def _nearer(
        self,
        best: Found | None,
        template: Template,
        known: Mapping[str, Any],
        other: Mapping[str, Any],
    ) -> Found | None:
        """`best`, or what comes of it with `other` answers, if that is nearer."""
        said = best.render.answers if best else {}
        if best and all(said.get(question) == value for question, value in other.items()):
            return best
        tried = self._tried(template, {**(best.answers if best else known), **other})
        return tried if tried and (best is None or tried.nearness > best.nearness) else best

    def _choices(self, template: Template) -> dict[str, list[Any]]:
        """Possible answers to each question that has a few."""
        options: dict[str, list[Any]] = {}
        for question, details in self._open(template).items():
            choices = details.get("choices")
            if isinstance(choices, list | dict) and not details.get("multiselect"):
                options[question] = list(choices.values() if isinstance(choices, dict) else choices)
            elif details.get("type") == "bool":
                options[question] = [True, False]
        return options

    def _read(self, template: Template, best: Found | None) -> dict[str, list[str]]:
        """What the service's files say of each question that is answered in free words."""
        answered = best.render.answers if best else {}
        tries: dict[str, list[Any]] = {
            question: [answer] for question, answer in (best.answers if best else {}).items()
        }
        free = {
            question: marks.candidates(number, details, answered.get(question))
            for number, (question, details) in enumerate(self._open(template).items())
            if marks.is_free(details)
        }
        marked = self._marked(template, {**tries, **free})
        if marked is None:
            return {}
        render, given = marked
        asked = {question: str(given[question]) for question in free if question in given}
        rendered = self._scratch.entries(render.tree)
        found = readings(self._shelf, rendered, self._present, asked)
        if "service_name" in found:
            found["service_name"].append(self._service.root.name)
        return {question: list(dict.fromkeys(values)) for question, values in found.items()}

    def _marked(
        self, template: Template, tries: Mapping[str, Sequence[Any]]
    ) -> tuple[Render, dict[str, Any]] | None:
        """A render, and the answers it has: for each question the first that is accepted.

        As data: an answer that the template refuses is then an error, not silently its default.
        """
        left = {question: list(values) for question, values in tries.items()}
        while True:
            given = {question: values[0] for question, values in left.items() if values}
            try:
                return self._render(template, {}, {**given, **self._data}), given
            except BadAnswer as error:
                if error.question is None or not left.get(error.question):
                    return None
                left[error.question].pop(0)
            except CannotCache:
                raise
            except DockyardError:
                return None

    def _open(self, template: Template) -> dict[str, Mapping[str, Any]]:
        """The questions that no known answer settles, with their details."""
        details = {question: template.config.get(question) for question in template.questions}
        return {
            question: said if isinstance(said, dict) else {}
            for question, said in details.items()
            if question not in self._data
        }

    def _tried(self, template: Template, answers: Mapping[str, Any]) -> Found | None:
        """None if the template does not accept the answers, or cannot be rendered at all."""
        try:
            render = self._render(template, answers, self._data)
        except CannotCache:
            raise
        except DockyardError:
            # A version that cannot be rendered did not render the service.
            return None
        is_yours = owned(template.yours)
        rendered = {
            path: entry
            for path, entry in self._scratch.entries(render.tree).items()
            if path != self._service.recorded.file
        }
        compared = likeness(self._shelf, rendered, self._present)
        managed = tuple(file for file in compared if not is_yours(file.path))
        return Found(template, answers, render, managed, nearness(compared))

    def _render(
        self, template: Template, answers: Mapping[str, Any], data: Mapping[str, Any]
    ) -> Render:
        known = self._service.recorded
        recorded = Recorded(known.source, recorded_version(template), answers, known.file)
        asked = {
            question: answer for question, answer in data.items() if question in template.questions
        }
        return render_tree(template, recorded, self._service.root.name, asked)

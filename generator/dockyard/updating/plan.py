"""An update as a plan: two renders and one merge give one result, which is then applied or not.

`plan` predicts and writes nothing; `apply` makes a plan real. Knows every step; knows the internals
of no step.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dockyard.answers import Recorded
from dockyard.errors import UnknownQuestion
from dockyard.rendering.notes import between
from dockyard.rendering.render import render_tree
from dockyard.rendering.template import Template
from dockyard.service import Service
from dockyard.updating.merge import Merge, Side, merge, owned
from dockyard.updating.scratch_repository import ScratchRepository
from dockyard.updating.versions import Step


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the newer template that the service has not answered yet."""

    name: str
    answer: Any
    """What the update answers: the given data, else the default."""
    is_given: bool
    help: str
    carried: tuple[str, ...] = ()
    """The retired answers that the default is made of."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an update would do. The update then does exactly this."""

    service: Service
    step: Step
    merge: Merge
    answers: Mapping[str, Any]
    """The answers that the result records."""
    new_questions: tuple[Question, ...]
    retired: tuple[str, ...]
    """Recorded answers that the newer template does not ask for."""
    notes: str
    """What the template's CHANGELOG.md says of the versions between."""

    @property
    def is_empty(self) -> bool:
        """Whether the service has the result already."""
        return self.merge.tree == self.service.tree and not self.merge.conflicts


def plan(
    scratch: ScratchRepository,
    service: Service,
    chosen: Step,
    data: Mapping[str, str] | None = None,
) -> Plan:
    """The update of `service`, as committed, by `chosen`, with new or other answers in `data`.

    Raises UnknownQuestion, and what `render.render_tree` raises, such as BadAnswer for a new
    question without default.
    """
    recorded, target = chosen.recorded, chosen.target
    for question in data or {}:
        if question not in target.questions:
            raise UnknownQuestion(question, target.source.recorded, target.questions)
    old = render_tree(recorded, service.recorded, service.root.name)
    new = render_tree(target, service.recorded, service.root.name, data)
    merged = merge(
        scratch,
        old.tree,
        Side(new.tree, target.version),
        Side(service.tree, "service"),
        answers_file=service.recorded.file,
        is_yours=owned(target.yours),
    )
    known = service.recorded.answers
    retired = tuple(name for name in known if name not in new.answers)
    return Plan(
        service=service,
        step=chosen,
        merge=merged,
        answers=new.answers,
        new_questions=tuple(
            _new(target, name, answer, data or {}, retired)
            for name, answer in new.answers.items()
            if name not in known
        ),
        retired=retired,
        notes=between(recorded, target),
    )


def _new(
    target: Template, name: str, answer: Any, data: Mapping[str, str], retired: tuple[str, ...]
) -> Question:
    details = target.config.get(name)
    details = details if isinstance(details, dict) else {}
    is_given = name in data
    words = () if is_given else re.findall(r"\w+", str(details.get("default", "")))
    carried = tuple(old for old in retired if old in words)
    return Question(name, answer, is_given, str(details.get("help", "")), carried)


def after(done: Plan) -> Service:
    """The service after `done`, for the next step. Its objects are in the scratch repository."""
    recorded = Recorded(
        done.service.recorded.source,
        done.step.target.commit,
        done.answers,
        done.service.recorded.file,
    )
    return replace(done.service, tree=done.merge.tree, recorded=recorded)

"""How one service of a fleet stands: version, drift, predicted conflicts, branches that wait.

Writes nothing and raises nothing: an error is part of the answer, so no service stops the others.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from dockyard import commands
from dockyard.errors import Defect, DirtyService, DockyardError, one_line
from dockyard.fleet import branches, clones
from dockyard.fleet.age import drifted_since, lacking_since
from dockyard.fleet.base import base_of
from dockyard.fleet.roster import Member
from dockyard.programs import git
from dockyard.programs.tree import shown
from dockyard.rendering import source
from dockyard.rendering.healing import healed
from dockyard.service import Service, open_service, require_clean
from dockyard.updating.plan import Plan, Question, plan
from dockyard.updating.scratch_repository import open_scratch
from dockyard.updating.versions import source_of


class State(StrEnum):
    """How a service stands, or what a command made of it."""

    CURRENT = "current"
    """It has the wanted version."""
    OUTDATED = "outdated"
    """There is a newer version, and it merges without a conflict."""
    BLOCKED = "blocked"
    """There is a newer version, and a person has to solve conflicts."""
    UPDATED = "updated"
    """The newer version is on its branch, or in its working tree."""
    FAILED = "failed"
    """The newer version is on its branch, and the service's own tests fail there."""
    FOREIGN = "foreign"
    """It follows another template than the fleet."""
    ERROR = "error"
    """Somebody must mend what the message says first."""
    SKIPPED = "skipped"
    """Not looked at, because others failed before."""
    WAITING = "waiting"
    """Not begun, because an earlier wave is not through."""


IN_FILE = "template of the fleet file"
"""Where a fleet's template is named."""
DIRTY = "dirty: it has uncommitted changes; commit them before an update"
LOST = (
    "the process that worked on it was killed, perhaps for want of memory; "
    "run this again with fewer --jobs."
)


@dataclass(frozen=True, slots=True)
class Aim:
    """What all services of a fleet should have."""

    template: str | None = None
    """Address of the template that all follow; None: each its own."""
    to: str | None = None
    """The wanted version; None: the newest release."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Answers that every service gets, also in the place of its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """One service of the fleet."""

    name: str
    place: str
    """Its folder, or the address of its repository."""
    groups: tuple[str, ...]
    state: State
    template: str = ""
    recorded: str = ""
    """The version it has."""
    target: str = ""
    """The version it should have."""
    behind: int = 0
    """Releases between the two."""
    drift: tuple[tuple[str, str], ...] = ()
    """Managed files that differ from the recorded render: path and how."""
    conflicts: tuple[tuple[str, str], ...] = ()
    """Files that a person has to look at: path and kind."""
    branches: tuple[str, ...] = ()
    """Dockyard's branches with updates that are not merged yet."""
    url: str = ""
    """The pull request's address, or of the page that opens one."""
    message: str = ""
    """What is wrong, or worth knowing."""
    new_questions: tuple[Question, ...] = ()
    """Questions that the update answers for the first time."""
    lacking_since: datetime | None = None
    """When the oldest release that it lacks was made."""
    drift_since: Mapping[str, datetime] = field(default_factory=dict)
    """Since when files have drifted, by their path; not told of uncommitted ones."""
    breaches: tuple[str, ...] = ()
    """What breaks the policy of the fleet file."""
    waived: tuple[str, ...] = ()
    """What would break it without a waiver."""

    @property
    def needs_somebody(self) -> bool:
        """Whether a person has to do something: no command of Dockyard alone mends it."""
        return self.state in {State.BLOCKED, State.FAILED, State.FOREIGN, State.ERROR}

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to do at all."""
        return self.state is State.CURRENT and not self.drift


@dataclass(frozen=True, slots=True)
class Release:
    """A version that a service had, and since when."""

    version: str
    since: datetime


def status_of(member: Member, aim: Aim) -> Row:
    """How `member` stands against `aim`."""
    return isolated(member, lambda place: _status_of(member, place, aim))


def isolated(member: Member, work: Callable[[Path], Row]) -> Row:
    """What `work` says of the service in its folder; on an error, a row with the reason."""
    try:
        return healed(lambda: work(clones.folder(member)))
    except DockyardError as error:
        return replace(row(member, State.ERROR), message=str(error))
    except Exception as error:  # noqa: BLE001 - a defect met in one service must not stop the others
        return replace(row(member, State.ERROR), message=str(Defect(error)))


def lost(member: Member) -> Row:
    """The row of a service whose process was killed."""
    return replace(row(member, State.ERROR), message=LOST)


def row(member: Member, state: State) -> Row:
    """A row that says nothing but where the service is."""
    return Row(
        member.name, one_line(str(member.path or member.url)), tuple(sorted(member.groups)), state
    )


def new_answers(member: Member, service: Service, aim: Aim) -> dict[str, str]:
    """The given answers, and those of the fleet file that are asked and that the service lacks."""
    if not member.answers:
        return dict(aim.data)
    from dockyard.updating.versions import step  # noqa: PLC0415 - only fleets with answers need it

    asked = step(service, source_of(service), aim.to).target.questions
    lacking = {
        question: str(answer)
        for question, answer in member.answers.items()
        if question in asked and question not in service.recorded.answers
    }
    return lacking | dict(aim.data)


def is_foreign(service: Service, aim: Aim) -> bool:
    """Whether the service follows another template than the fleet."""
    return aim.template is not None and not source.is_same(
        source_of(service), source.locate(aim.template, IN_FILE)
    )


def foreign(member: Member, service: Service, aim: Aim) -> Row:
    """The row of a service that follows another template."""
    why = f"it follows {service.recorded.source}, the fleet {aim.template}"
    return replace(row(member, State.FOREIGN), template=service.recorded.source, message=why)


def remarked(made: Row, remark: str) -> Row:
    """`made`, with one more thing that is worth knowing."""
    return replace(made, message="; ".join(filter(None, (made.message, remark))))


def conflicts_of(plans: Iterable[Plan]) -> tuple[tuple[str, str], ...]:
    """Path and kind of each file that a person has to look at."""
    return tuple(
        (shown(file.path), str(file.conflict)) for each in plans for file in each.merge.decisions
    )


def questions_of(plans: Iterable[Plan]) -> tuple[Question, ...]:
    """Questions that an update answers for the first time."""
    return tuple(question for each in plans for question in each.new_questions)


def history(member: Member) -> tuple[Release, ...]:
    """The versions that a service had, oldest first, as far as its git history tells."""
    try:
        service = open_service(clones.folder(member))
    except DockyardError:
        return ()
    log = ("log", "--reverse", "--first-parent", "--format=@%ct", "-p", "-U0")
    plain = ("--no-color", "--no-ext-diff", "--", service.recorded.file)
    told = git.run(*log, *plain, folder=service.root, env=git.isolated_environment())
    releases: list[Release] = []
    since = datetime.fromtimestamp(0, UTC)
    for line in told.splitlines():
        if line.startswith("@") and line[1:].isdigit():
            since = datetime.fromtimestamp(int(line[1:]), UTC)
        elif line.startswith("+_commit:"):
            releases.append(Release(line.removeprefix("+_commit:").strip().strip("'\""), since))
    return tuple(releases)


def _drift_since(checked: commands.Checked) -> dict[str, datetime]:
    paths = [file.path for file in checked.drift.files]
    found = drifted_since(checked.service, checked.drift.rendered, paths)
    return {shown(path): moment for path, moment in found.items()}


def _status_of(member: Member, place: Path, aim: Aim) -> Row:
    based = base_of(member)
    service = based.service
    if is_foreign(service, aim):
        return foreign(member, service, aim)
    checked = commands.check(place, aim.to, based.at)
    found = replace(
        row(member, State.OUTDATED if checked.behind else State.CURRENT),
        template=service.recorded.source,
        recorded=checked.step.recorded.version,
        target=checked.step.target.version,
        behind=checked.behind,
        drift=tuple((shown(file.path), str(file.how)) for file in checked.drift.files),
        branches=branches.waiting(service),
        lacking_since=lacking_since(checked.step) if checked.behind else None,
        drift_since=_drift_since(checked),
        message="; ".join(filter(None, (*checked.warnings, based.remark))),
    )
    try:
        require_clean(service)
    except DirtyService:
        found = remarked(found, DIRTY)
    except DockyardError as error:
        return replace(found, state=State.ERROR, message=str(error))
    if not checked.behind:
        return found
    try:
        with open_scratch(service) as scratch:
            predicted = plan(scratch, service, checked.step, new_answers(member, service, aim))
    except DockyardError as error:
        return replace(found, state=State.ERROR, message=str(error))
    return replace(
        found,
        state=State.BLOCKED if predicted.merge.conflicts else State.OUTDATED,
        conflicts=conflicts_of([predicted]),
        new_questions=questions_of([predicted]),
    )

"""Updates one service of a fleet: updated, verified, pushed, with a pull request.

Raises nothing, see `status`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from dockyard import commands
from dockyard.commands import Outcome, Updated
from dockyard.errors import DockyardError
from dockyard.fleet.base import Based, base_of, checked_out
from dockyard.fleet.branches import supersede
from dockyard.fleet.publish import publish
from dockyard.fleet.roster import Member
from dockyard.fleet.status import (
    Aim,
    Row,
    State,
    conflicts_of,
    foreign,
    is_foreign,
    isolated,
    new_answers,
    questions_of,
    remarked,
    row,
)
from dockyard.fleet.verify import why_tests_fail
from dockyard.programs.cache import cache_folder, locked
from dockyard.service import Service, open_service

_STATE = {
    Outcome.NOTHING: State.CURRENT,
    Outcome.PREDICTED: State.OUTDATED,
    Outcome.COMMITTED: State.UPDATED,
    Outcome.WRITTEN: State.UPDATED,
    Outcome.BLOCKED: State.BLOCKED,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What an update of the fleet does with each service."""

    dry_run: bool = False
    in_place: bool = False
    verify: bool = False
    """Run the service's own tests on the result."""
    push: bool = False
    pull_request: bool = False
    """Push, and open a pull request."""


def update_one(member: Member, aim: Aim, wish: Wish) -> Row:
    """Bring `member` to what `aim` says. With conflicts, or an error, it stays as it was."""
    return isolated(member, lambda place: _update_one(member, place, aim, wish))


def _update_one(member: Member, place: Path, aim: Aim, wish: Wish) -> Row:
    with _repository_locked(open_service(place)):
        based = start_of(member, wish)
        service = based.service
        if is_foreign(service, aim):
            return foreign(member, service, aim)
        done = _updated(member, based, aim, wish)
        gone = supersede(service, done) if done.committed else ()
    made = remarked(_row(member, service, done), based.remark)
    if made.state is not State.UPDATED or done.committed is None:
        return made
    if gone:
        made = remarked(made, f"it replaces {', '.join(gone)}")
    if wish.verify and (failure := why_tests_fail(service, done.committed.commit)) is not None:
        return replace(made, state=State.FAILED, message=failure)
    if wish.push or wish.pull_request:
        return _published(made, member, based.branch, done, wish)
    if member.url is not None:
        return remarked(made, "its branch is in Dockyard's own clone until this is run with --push")
    return made


def start_of(member: Member, wish: Wish) -> Based:
    """Where the update that is wished for begins."""
    if wish.in_place:
        return checked_out(member)
    return base_of(member, fetched=wish.push and not wish.dry_run)


def _published(made: Row, member: Member, into: str, done: Updated, wish: Wish) -> Row:
    try:
        with _repository_locked(done.service):
            opened = publish(member, into, done, with_pull_request=wish.pull_request)
    except DockyardError as error:
        return replace(made, state=State.ERROR, message=str(error))
    made = remarked(replace(made, url=opened.url), opened.remark)
    return replace(remarked(made, opened.problem), state=State.ERROR) if opened.problem else made


def _updated(member: Member, based: Based, aim: Aim, wish: Wish) -> Updated:
    service = based.service
    data = new_answers(member, service, aim)
    if wish.in_place and not wish.dry_run:
        predicted = commands.update(service.root, to=aim.to, data=data, dry_run=True)
        if predicted.conflicts:
            # A person who updates one service solves them there and then; nobody does in a hundred.
            return replace(predicted, outcome=Outcome.BLOCKED)
    return commands.update(
        service.root,
        to=aim.to,
        data=data,
        dry_run=wish.dry_run,
        in_place=wish.in_place,
        at=based.at,
    )


@contextmanager
def _repository_locked(service: Service) -> Iterator[None]:
    """Keep out the other services and worktrees of the same repository: they share its refs."""
    key = sha256(os.fsencode(service.objects.resolve())).hexdigest()[:32]
    with locked(cache_folder("repositories") / f"{key}.lock"):
        yield


def _row(member: Member, service: Service, done: Updated) -> Row:
    way = done.plans[-1].step if done.plans else None
    conflicts = conflicts_of(done.plans)
    return replace(
        row(member, State.BLOCKED if conflicts else _STATE[done.outcome]),
        template=service.recorded.source,
        recorded=way.recorded.version if way else service.recorded.version,
        target=way.target.version if way else service.recorded.version,
        conflicts=conflicts,
        branches=(done.committed.branch,) if done.committed else (),
        message="; ".join(done.warnings),
        new_questions=questions_of(done.plans),
    )

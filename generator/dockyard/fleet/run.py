"""One operation over all services of a fleet: in parallel processes, one command at a time.

Which service comes when is in `waves`; what is done with one is in `status` and `update`.
"""

import fcntl
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from hashlib import sha256
from pathlib import Path

from dockyard.errors import DockyardError
from dockyard.fleet import branches, clones
from dockyard.fleet.apis.port import Checks
from dockyard.fleet.base import base_of
from dockyard.fleet.forges import checks, is_open
from dockyard.fleet.patches import Patch, patch_of
from dockyard.fleet.pool import mapped
from dockyard.fleet.roster import Member, Roster, Stage
from dockyard.fleet.status import IN_FILE, LOST, Aim, Row, State, lost, row, status_of
from dockyard.fleet.update import Wish, start_of, update_one
from dockyard.fleet.waves import Wave, in_waves
from dockyard.programs import git, network
from dockyard.programs.cache import cache_folder
from dockyard.rendering import source
from dockyard.rendering.source import Source
from dockyard.rendering.template import UnknownRef, template_at
from dockyard.service import open_service
from dockyard.updating.apply import branch_for
from dockyard.updating.versions import address_of, source_of, step


class FleetBusy(DockyardError):
    """Another update of the same fleet is at work."""

    def __init__(self, fleet: Path, by: str) -> None:
        super().__init__(
            f"the fleet {fleet} is being updated already, by {by}: "
            "wait until that is done, or run this with --wait."
        )


def survey(members: Sequence[Member], aim: Aim, *, jobs: int) -> Iterator[Row]:
    """How each service stands, as it becomes known."""
    here, gone = _brought(members, jobs)
    yield from gone.values()
    with _asked_once(here, aim) as prepare:
        yield from mapped(partial(status_of, aim=aim), here, jobs=jobs, prepare=prepare, lost=lost)


def patches(members: Sequence[Member], aim: Aim, *, jobs: int) -> Iterator[Patch]:
    """The patch of each service, in the fleet's order."""
    here, gone = _brought(members, jobs)
    with _asked_once(here, aim) as prepare:
        work = partial(patch_of, to=aim.to)
        made = {
            one.name: one for one in mapped(work, here, jobs=jobs, prepare=prepare, lost=_no_patch)
        }
    for member in members:
        yield made.get(member.name) or Patch(member.name, b"", gone[member].message)


def update(
    members: Sequence[Member],
    aim: Aim,
    wish: Wish,
    wave: Wave,
    *,
    jobs: int,
) -> Iterator[Row]:
    """Yield each service once it is updated; the services that are left out come last.

    With a limit, a service whose update waits on its branch is passed over, so that each run takes
    others.
    """
    here, gone = _brought(members, jobs)
    yield from gone.values()
    with _asked_once(here, aim) as prepare:
        needs = dict.fromkeys(here, Need.UPDATE)
        if wave.limit is not None or wave.canary or wave.stages:
            find = partial(_need, aim=aim, wish=wish, is_again=wave.limit is None)
            needs = dict(mapped(find, here, jobs=jobs, prepare=prepare, lost=_unknown_need))
            here = [member for member in here if needs[member] is Need.UPDATE]

        def turn(now: Sequence[Member], is_enough: Callable[[Row], bool]) -> Iterator[Row]:
            work = partial(update_one, aim=aim, wish=wish)
            return mapped(work, now, jobs=jobs, prepare=prepare, lost=lost, is_enough=is_enough)

        wave_of = {member: stage.name for stage in wave.stages for member in stage.members}

        def holding(stage: Stage, done: Mapping[str, Row]) -> list[str]:
            if stage.until == "updated" or wish.dry_run:
                return []
            # The trouble of one team says nothing about the template.
            own = {name for name, one in done.items() if one.needs_somebody and not one.branches}
            pending = [
                member
                for member in needs
                if wave_of.get(member) == stage.name
                and needs[member] is not Need.NOTHING
                and member.name not in own
            ]
            if stage.until == "green":
                asked = mapped(
                    partial(_not_green, aim=aim), pending, jobs=jobs, prepare=prepare, lost=_named
                )
                return [name for name in asked if name]
            return [member.name for member in pending]

        yield from in_waves(_staged(here, wave.stages), wave, turn, holding)


@contextmanager
def exclusively(roster: Roster, *, wait: Callable[[str], None] | None) -> Iterator[None]:
    """Keep out every other update of this fleet. The lock ends with the process.

    If another update is at work, `wait` is told who, and then this waits. Without `wait` it raises
    FleetBusy.
    """
    key = sha256(os.fsencode(roster.origin)).hexdigest()[:32]
    with (cache_folder("fleets") / f"{key}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            if wait is None:
                raise FleetBusy(roster.origin, holder) from error
            wait(holder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        yield


def _brought(members: Sequence[Member], jobs: int) -> tuple[list[Member], dict[Member, Row]]:
    """Members that are on this disk now, and rows for the others. Raises BadTimeout."""
    network.patience()
    distant = {clones.key(member): member for member in members if member.url is not None}
    work = mapped(_bring, list(distant.values()), jobs=jobs, prepare=_nothing, lost=_unbrought)
    problems = {clones.key(member): problem for member, problem in work if problem}
    gone = {
        member: replace(row(member, State.ERROR), message=problems[clones.key(member)])
        for member in members
        if member.url is not None and clones.key(member) in problems
    }
    return [member for member in members if member not in gone], gone


def _bring(member: Member) -> tuple[Member, str]:
    try:
        clones.bring(member)
    except DockyardError as error:
        return member, str(error)
    return member, ""


@contextmanager
def _asked_once(members: Sequence[Member], aim: Aim) -> Iterator[Callable[[], None]]:
    """Ask every template's address once, and tell each process by the function that this gives.

    Raises UnknownRef.
    """
    sources: dict[str, Source | str] = {}
    for address, named in [(aim.template, IN_FILE), *(_address(member) for member in members)]:
        if address is not None and address not in sources:
            with network.bounded():
                sources[address] = _located(address, named)
    _require_known(aim.to, sources.values() if aim.template is None else [sources[aim.template]])
    try:
        yield partial(source.remember, sources)
    finally:
        source.remember({})


def _located(address: str, named: str) -> Source | str:
    """The template's repository, or the sentence with which its services fail."""
    try:
        return source.locate(address, named)
    except DockyardError as error:
        return str(error)


def _require_known(to: str | None, sources: Iterable[Source | str]) -> None:
    """Raises UnknownRef if none of the templates that can be reached knows `to`."""
    unknown = (
        [_unknown(to, each) for each in sources if not isinstance(each, str)]
        if to is not None
        else []
    )
    if unknown and (first := unknown[0]) is not None and None not in unknown:
        raise first


def _unknown(to: str | None, template: Source) -> UnknownRef | None:
    try:
        template_at(template, to, option="--to")
    except UnknownRef as error:
        return error
    except DockyardError:
        return None  # the services that follow it say what is wrong with it
    return None


def _address(member: Member) -> tuple[str | None, str]:
    """The address of its template, as `source_of` asks for it, and where that is named."""
    try:
        return address_of(open_service(clones.folder(member)))
    except DockyardError:
        return None, ""


class Need(Enum):
    """What a service lacks."""

    UPDATE = auto()
    MERGE = auto()
    """Its update waits on its branch."""
    NOTHING = auto()


def _staged(here: Sequence[Member], stages: Sequence[Stage]) -> list[Stage]:
    """The stages with the services of `here`; the ones of no stage come last."""
    chosen = set(here)
    first = [
        replace(stage, members=tuple(member for member in stage.members if member in chosen))
        for stage in stages
    ]
    early = {member for stage in stages for member in stage.members}
    last = tuple(member for member in here if member not in early)
    return [*first, Stage("of all others", last)]


def _need(member: Member, aim: Aim, wish: Wish, *, is_again: bool) -> tuple[Member, Need]:
    """What the service lacks. Unless `is_again`, an update on its branch only needs its merge.

    A service of which nothing can be told needs the update, which then says why.
    """
    try:
        service = start_of(member, wish).service
        way = step(service, source_of(service), aim.to)
        if way.is_none and not aim.data:
            return member, Need.NOTHING
        if way.is_none or is_again or wish.in_place:
            return member, Need.UPDATE
        waits = branches.waits(service, way.target, pushed=wish.push)
        if waits and wish.pull_request:
            waits = is_open(service, branch_for(service, way.target), member)
    except DockyardError:
        return member, Need.UPDATE
    return member, Need.MERGE if waits else Need.UPDATE


def _not_green(member: Member, aim: Aim) -> str:
    """The service's name, unless the forge says that the checks of its update pass."""
    try:
        service = base_of(member).service
        branch = branch_for(service, step(service, source_of(service), aim.to).target)
        tip = git.run("rev-parse", "--verify", f"refs/heads/{branch}", folder=service.root).strip()
        return "" if checks(service, tip, member) is Checks.PASSED else member.name
    except DockyardError:
        return member.name


def _named(member: Member) -> str:
    return member.name


def _unknown_need(member: Member) -> tuple[Member, Need]:
    return member, Need.UPDATE


def _unbrought(member: Member) -> tuple[Member, str]:
    return member, LOST


def _no_patch(member: Member) -> Patch:
    return Patch(member.name, b"", LOST)


def _nothing() -> None:
    """Nothing to prepare."""

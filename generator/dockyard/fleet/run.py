"""One operation over all services of a fleet: in parallel processes, one command at a time.

Who comes when is in `waves`; what is done with a service is in `stand` and `advance`.
"""

import fcntl
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256

from dockyard.errors import DockyardError, FleetBusy, UnknownRef
from dockyard.fleet import branches, clones
from dockyard.fleet.forges import is_offered
from dockyard.fleet.patches import Patch, patch
from dockyard.fleet.pool import mapped
from dockyard.fleet.roster import Member, Roster
from dockyard.fleet.status import IN_FILE, LOST, Aim, Row, State, lost, row, stand
from dockyard.fleet.update import Wish, advance
from dockyard.fleet.waves import Wave, in_waves
from dockyard.programs import network
from dockyard.rendering import source
from dockyard.rendering.source import Source
from dockyard.rendering.template import template_at
from dockyard.service import open_service
from dockyard.updating.versions import source_of, step


def survey(members: Sequence[Member], aim: Aim, *, jobs: int) -> Iterator[Row]:
    """How each service stands, in the order in which it is known."""
    here, gone = _brought(members, jobs)
    yield from gone.values()
    with _asked_once(here, aim) as prepare:
        yield from mapped(partial(stand, aim=aim), here, jobs=jobs, prepare=prepare, lost=lost)


def patches(members: Sequence[Member], aim: Aim, *, jobs: int) -> Iterator[Patch]:
    """What `patches.patch` says of each service, in the fleet's order."""
    here, gone = _brought(members, jobs)
    with _asked_once(here, aim) as prepare:
        work = partial(patch, to=aim.to)
        made = {
            one.name: one for one in mapped(work, here, jobs=jobs, prepare=prepare, lost=_no_patch)
        }
    for member in members:
        yield made.get(member.name) or Patch(member.name, b"", gone[member].message)


def update(
    members: Sequence[Member], aim: Aim, wish: Wish, wave: Wave, *, jobs: int
) -> Iterator[Row]:
    """Bring the services forward, in the order in which they are done; those that are left out come last.

    With a limit, services whose update waits on its branch already are passed over, so that each run takes on others.
    """
    here, gone = _brought(members, jobs)
    yield from gone.values()
    with _asked_once(here, aim) as prepare:
        if wave.limit is not None or wave.canary:
            wants = partial(_wants, aim=aim, wish=wish, is_again=wave.limit is None)
            asked = mapped(wants, here, jobs=jobs, prepare=prepare, lost=_wanted)
            wanting = {member for member, is_wanted in asked if is_wanted}
            here = [member for member in here if member in wanting]

        def turn(now: Sequence[Member], is_enough: Callable[[Row], bool]) -> Iterator[Row]:
            work = partial(advance, aim=aim, wish=wish)
            return mapped(work, now, jobs=jobs, prepare=prepare, lost=lost, is_enough=is_enough)

        yield from in_waves(here, wave, turn)


@contextmanager
def alone(roster: Roster, *, wait: Callable[[str], None] | None) -> Iterator[None]:
    """Keep every other update of this fleet away; the lock ends with the process, killed or not.

    `wait` is told who is at work before it is waited for; without it this raises FleetBusy.
    """
    key = sha256(os.fsencode(roster.origin)).hexdigest()[:32]
    with (source.cache("fleets") / f"{key}.lock").open("a+") as lock:
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
    """Members that are on this disk now, and rows for those that could not be brought. Raises BadTimeout."""
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
    """What tells each process where the templates of `members` are: every address is asked once. Raises UnknownRef."""
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
    """The template's repository, or why there is none: the services that follow it say so."""
    try:
        return source.locate(address, named)
    except DockyardError as error:
        return str(error)


def _require_known(to: str | None, sources: Iterable[Source | str]) -> None:
    """Raises UnknownRef when no template of those that can be reached knows `to`."""
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
    """The address of its template as `source_of` asks for it, and where it is named."""
    try:
        service = open_service(clones.folder(member))
    except DockyardError:
        return None, ""
    beside = service.root / service.recorded.source
    return str(
        beside
    ) if beside.is_dir() else service.recorded.source, f"_src_path of {service.recorded.file}"


def _wants(member: Member, aim: Aim, wish: Wish, *, is_again: bool) -> tuple[Member, bool]:
    """Whether the service is to be taken on; one of which nothing can be said is.

    One that has the wanted version is not, and unless `is_again` none whose update waits on its branch.
    """
    try:
        service = open_service(clones.folder(member))
        way = step(service, source_of(service), aim.to)
        if way.is_none or is_again or wish.in_place:
            return member, not way.is_none
        waits = branches.waits(service, way.target, pushed=wish.push)
        if waits and wish.offer:
            waits = is_offered(service, branches.branch_to(service, way.target), member.forge)
    except DockyardError:
        return member, True
    return member, not waits


def _wanted(member: Member) -> tuple[Member, bool]:
    return member, True


def _unbrought(member: Member) -> tuple[Member, str]:
    return member, LOST


def _no_patch(member: Member) -> Patch:
    return Patch(member.name, b"", LOST)


def _nothing() -> None:
    """Nothing to prepare."""

"""One operation over all services of a fleet: in parallel processes, in waves, one command at a time.

Knows who comes when and when to stop; what is done with a service is in `stand` and `advance`.
"""

import fcntl
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256

from dockyard import source
from dockyard.errors import DockyardError, FleetBusy
from dockyard.fleet import clones
from dockyard.fleet.advance import Wish, advance
from dockyard.fleet.patches import Patch, patch
from dockyard.fleet.pool import mapped
from dockyard.fleet.roster import Member, Roster
from dockyard.fleet.stand import LOST, Aim, Row, State, lost, row, stand
from dockyard.service import open_service
from dockyard.source import Source
from dockyard.versions import source_of, step


@dataclass(frozen=True, slots=True)
class Wave:
    """How many services are taken on, and when to stop."""

    limit: int | None = None
    """Services that get an update, at most."""
    canary: int = 0
    """Services that go first, alone; unless all of them turn out well, the others are left."""
    max_failures: int = 0
    """More failed tests than this, and no further service is begun."""


@dataclass
class _Failures:
    """Counts the services whose tests failed."""

    allowed: int
    names: list[str] = field(default_factory=list)

    def too_many(self, done: Row) -> bool:
        if done.state is State.FAILED:
            self.names.append(done.name)
        return len(self.names) > self.allowed


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
        made = {one.name: one for one in mapped(work, here, jobs=jobs, prepare=prepare, lost=_no_patch)}
    for member in members:
        yield made.get(member.name) or Patch(member.name, b"", gone[member].message)


def update(members: Sequence[Member], aim: Aim, wish: Wish, wave: Wave, *, jobs: int) -> Iterator[Row]:
    """Bring the services forward, in the order in which they are done; those that are left out come last."""
    here, gone = _brought(members, jobs)
    yield from gone.values()
    with _asked_once(here, aim) as prepare:
        first, then = here[:0], here
        if wave.limit is not None or wave.canary:
            wants = partial(_wants, aim=aim)
            asked = mapped(wants, here, jobs=jobs, prepare=prepare, lost=_wanted)
            wanting = {member for member, is_wanted in asked if is_wanted}
            chosen = [member for member in here if member in wanting][: wave.limit]
            first, then = chosen[: wave.canary], chosen[wave.canary :]
        failures = _Failures(wave.max_failures)
        work = partial(advance, aim=aim, wish=wish)
        done: set[str] = set()
        for turn in (first, then):
            ill = []
            for result in mapped(work, turn, jobs=jobs, prepare=prepare, lost=lost, is_enough=failures.too_many):
                done.add(result.name)
                ill += [result.name] if result.needs_somebody else []
                yield result
            if failures.names[wave.max_failures :] or (turn is first and ill):
                break
    for member in (*first, *then):
        if member.name not in done:
            yield replace(row(member, State.SKIPPED), message=f"not begun, because of {', '.join(sorted(ill))}")


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
    """Members that are on this disk now, and rows for those that could not be brought."""
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
    """What tells each process where the templates of `members` are: every address is asked once."""
    sources: dict[str, Source] = {}
    for address in [aim.template, *(_address(member) for member in members)]:
        if address is not None and address not in sources:
            try:
                sources[address] = source.locate(address)
            except DockyardError:
                continue  # the services themselves say what is wrong with it
    try:
        yield partial(source.remember, sources)
    finally:
        source.remember({})


def _address(member: Member) -> str | None:
    """The address of its template as `source_of` asks for it."""
    try:
        service = open_service(clones.folder(member))
    except DockyardError:
        return None
    beside = service.root / service.recorded.source
    return str(beside) if beside.is_dir() else service.recorded.source


def _wants(member: Member, aim: Aim) -> tuple[Member, bool]:
    """Whether the service has another version than it should; one of which nothing can be said is wanted too."""
    try:
        service = open_service(clones.folder(member))
        return member, not step(service, source_of(service), aim.to).is_none
    except DockyardError:
        return member, True


def _wanted(member: Member) -> tuple[Member, bool]:
    return member, True


def _unbrought(member: Member) -> tuple[Member, str]:
    return member, LOST


def _no_patch(member: Member) -> Patch:
    return Patch(member.name, b"", LOST)


def _nothing() -> None:
    """Nothing to prepare."""

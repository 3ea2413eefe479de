"""Which services a fleet has: the ones in a fleet file, or the ones in a folder.

Reads names and places only; looks into no service and runs no git.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dockyard.errors import DockyardError
from dockyard.fleet.fleet_file import (
    BadFleetFile,
    FleetFile,
    Forge,
    PolicyEntry,
    ServiceEntry,
    Until,
    WaveEntry,
    understood,
)
from dockyard.fleet.scan import LeftOut, once, scan


class NoFleet(DockyardError):
    """There is neither a fleet file nor a service where a fleet was said to be."""

    def __init__(self, place: Path) -> None:
        super().__init__(
            f"there is no fleet at {place}: name a fleet.toml, or a folder that has services "
            "(folders with an answers file of Copier) in it."
        )


FLEET_FILE = "fleet.toml"


@dataclass(frozen=True, slots=True)
class Review:
    """What happens to a pull request once it is open."""

    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    auto_merge: bool = False
    """Whether the forge merges it once its checks pass."""


@dataclass(frozen=True, slots=True)
class Host:
    """A forge of the organisation's own."""

    kind: Forge
    api: str | None
    token: str
    """The variable that has the token."""


@dataclass(frozen=True, slots=True)
class Member:
    """One service of a fleet and where it lives: on this disk, or in a git repository elsewhere."""

    name: str
    """Unique in the fleet."""
    path: Path | None = None
    url: str | None = None
    branch: str | None = None
    """Branch of `url`; None: its default branch."""
    folder: str = ""
    """The service's folder in the repository of `url`; empty: its root."""
    groups: frozenset[str] = frozenset()
    forge: Forge | None = None
    """Which forge opens its pull requests; None: the host's name tells."""
    answers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Answers to questions that a newer template asks for the first time."""
    review: Review = Review()
    hosts: Mapping[str, Host] = field(default_factory=dict, hash=False)
    """Forges by their hosts."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Services that an update takes before the ones of later stages."""

    name: str
    members: tuple[Member, ...]
    until: Until = "updated"
    """What its services must be before the next stage begins."""


@dataclass(frozen=True, slots=True)
class Roster:
    """A fleet as its file describes it, in the file's order."""

    origin: Path
    """The fleet file, or the folder that was scanned."""
    members: tuple[Member, ...]
    template: str | None = None
    """The template that every service should follow; None: each its own."""
    stages: tuple[Stage, ...] = ()
    """The waves of the fleet file; services of none come after them."""
    left_out: tuple[LeftOut, ...] = ()
    """Folders that were found and are not looked at."""
    policy: PolicyEntry | None = None
    """What `fleet check` holds; None: all that is outdated or drifted is wrong."""

    def chosen(self, groups: Iterable[str]) -> tuple[Member, ...]:
        """Members of any of `groups`; without any, all. Raises BadFleetFile for an empty group."""
        wanted = set(groups)
        _require_groups(self.origin, self.members, wanted)
        return tuple(member for member in self.members if not wanted or wanted & member.groups)


def read(fleet: Path) -> Roster:
    """The fleet at `fleet`: a fleet file, a folder that has one, or a folder to scan.

    Raises NoFleet and BadFleetFile.
    """
    fleet = fleet.absolute()
    if fleet.is_dir() and not (fleet / FLEET_FILE).is_file():
        found = list(once(scan(fleet)))
        members = tuple(
            Member(name=_below(path, fleet), path=path) for path in found if isinstance(path, Path)
        )
        if not members:
            raise NoFleet(fleet)
        return Roster(fleet, members, left_out=_left_out(found))
    file = fleet / FLEET_FILE if fleet.is_dir() else fleet
    try:
        return _listed(file, understood(file))
    except FileNotFoundError as error:
        raise NoFleet(file) from error


def _left_out(found: Iterable[Path | LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(each for each in found if isinstance(each, LeftOut))


def _below(path: Path, folder: Path) -> str:
    return folder.name if path == folder else path.relative_to(folder).as_posix()


def _listed(file: Path, content: FleetFile) -> Roster:
    found = [each for entry in content.services for each in _members(entry, content, file)]
    places = once(each.path for each in found if isinstance(each, Member) and each.path)
    again = _left_out(places)
    gone = {each.path for each in again}
    members = tuple(each for each in found if isinstance(each, Member) and each.path not in gone)
    names = [member.name for member in members]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadFleetFile(
            file, f"two services are called {twice!r}; give one of them another name"
        )
    _require_groups(file, members, set(content.groups))
    for waiver in content.policy.waivers if content.policy else ():
        _require_groups(file, members, set(waiver.groups))
        _require_services(file, names, waiver.services, "a waiver")
    return Roster(
        origin=file,
        members=members,
        template=content.template,
        stages=tuple(_stages(content.waves, members, file)),
        policy=content.policy,
        left_out=(*(each for each in found if isinstance(each, LeftOut)), *again),
    )


def _members(entry: ServiceEntry, content: FleetFile, file: Path) -> Iterator[Member | LeftOut]:
    of_groups = [content.groups[name].answers for name in entry.groups if name in content.groups]
    # What is said of fewer services wins; of two groups, the one that the service names first.
    answers = {
        question: answer
        for each in (content.answers, *reversed(of_groups), entry.answers)
        for question, answer in each.items()
    }
    common = Member(
        name="",
        groups=frozenset(entry.groups),
        forge=entry.forge or content.forge,
        answers=answers,
        review=Review(
            tuple(content.pull_requests.labels),
            tuple(content.pull_requests.reviewers),
            content.pull_requests.auto_merge,
        ),
        hosts={
            host: Host(each.kind, each.api, each.token) for host, each in content.forges.items()
        },
    )
    if entry.url is not None:
        last = entry.folder or re.split(r"[/:]", entry.url.rstrip("/").removesuffix(".git"))[-1]
        name = entry.name or PurePosixPath(last).name
        yield replace(common, name=name, url=entry.url, branch=entry.branch, folder=entry.folder)
        return
    for each in _places(entry, file):
        if isinstance(each, LeftOut):
            yield each
            continue
        place = Path(os.path.abspath(each))  # noqa: PTH100 - resolve() would show what a link points to today
        yield replace(common, name=entry.name or place.name, path=place)


def _places(entry: ServiceEntry, file: Path) -> Iterator[Path | LeftOut]:
    assert entry.path is not None  # noqa: S101 - a path or a url is there, as validated
    root = Path(entry.path).expanduser()
    if "*" not in entry.path:
        yield file.parent / root
        return
    if entry.name:
        raise BadFleetFile(
            file, f"path {entry.path!r} means many services, which cannot share a name"
        )
    base = Path(root.anchor) if root.is_absolute() else file.parent
    matches = sorted(base.glob(str(root.relative_to(root.anchor))))
    found = [each for match in matches if match.is_dir() for each in scan(match)]
    if not any(isinstance(each, Path) for each in found):
        raise BadFleetFile(file, f"path {entry.path!r} matches no service")
    yield from found


def _stages(waves: Iterable[WaveEntry], members: tuple[Member, ...], file: Path) -> Iterator[Stage]:
    left = {member.name: member for member in members}
    known = set(left)
    for wave in waves:
        _require_groups(file, members, set(wave.groups))
        _require_services(file, known, wave.services, f"the wave {wave.name!r}")
        taken = [
            member
            for member in left.values()
            if member.name in wave.services or member.groups & set(wave.groups)
        ]
        for member in taken:
            del left[member.name]
        yield Stage(wave.name, tuple(taken), wave.until)


def _require_services(file: Path, known: Collection[str], wanted: Iterable[str], by: str) -> None:
    """Raises BadFleetFile for a name that no service has; `by` says where it stands."""
    if strange := sorted(set(wanted) - set(known)):
        raise BadFleetFile(file, f"{by} names no service: {strange[0]!r}")


def _require_groups(file: Path, members: Iterable[Member], wanted: set[str]) -> None:
    """Raises BadFleetFile for a group that no service is in."""
    known = {group for member in members for group in member.groups}
    if unknown := sorted(wanted - known):
        there_are = f"it has {', '.join(sorted(known))}" if known else "it has no groups"
        raise BadFleetFile(file, f"no service is in the group {unknown[0]!r}; {there_are}")

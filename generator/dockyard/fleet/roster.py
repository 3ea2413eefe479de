"""Which services a fleet has: the ones in a fleet file, or the ones in a folder.

Reads names and places only; looks into no service and runs no git.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dockyard.errors import DockyardError, one_line
from dockyard.fleet.scan import LeftOut, once, scan


class NoFleet(DockyardError):
    """There is neither a fleet file nor a service where a fleet was said to be."""

    def __init__(self, place: Path) -> None:
        super().__init__(
            f"there is no fleet at {place}: name a fleet.toml, or a folder that has services "
            "(folders with an answers file of Copier) in it."
        )


class BadFleetFile(DockyardError):
    """A fleet file that cannot be read, or asks for what it does not have."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(
            f"{file}: {one_line(problem)}. "
            "The fields of a fleet file are in docs/reference/fleet-file.md."
        )


FLEET_FILE = "fleet.toml"
Forge = Literal["github", "gitlab"]


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


@dataclass(frozen=True, slots=True)
class Roster:
    """A fleet as its file describes it, in the file's order."""

    origin: Path
    """The fleet file, or the folder that was scanned."""
    members: tuple[Member, ...]
    template: str | None = None
    """The template that every service should follow; None: each its own."""
    answers: Mapping[str, Any] = field(default_factory=dict)
    """Answers to questions that a newer template asks for the first time."""
    left_out: tuple[LeftOut, ...] = ()
    """Folders that were found and are not looked at."""

    def chosen(self, groups: Iterable[str]) -> tuple[Member, ...]:
        """Members of any of `groups`; without any, all. Raises BadFleetFile for an empty group."""
        wanted = set(groups)
        known = {group for member in self.members for group in member.groups}
        if unknown := sorted(wanted - known):
            there_are = f"it has {', '.join(sorted(known))}" if known else "it has no groups"
            raise BadFleetFile(
                self.origin, f"no service is in the group {unknown[0]!r}; {there_are}"
            )
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
    return _parsed(fleet / FLEET_FILE if fleet.is_dir() else fleet)


def _left_out(found: Iterable[Path | LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(each for each in found if isinstance(each, LeftOut))


def _below(path: Path, folder: Path) -> str:
    return folder.name if path == folder else path.relative_to(folder).as_posix()


def _inside(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a folder within the repository")
    return "" if str(path) == "." else str(path)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Service(_Strict):
    path: str | None = Field(default=None, min_length=1)
    url: str | None = Field(default=None, min_length=1)
    branch: str | None = Field(default=None, min_length=1)
    folder: Annotated[str, AfterValidator(_inside)] = ""
    name: str | None = Field(default=None, min_length=1)
    groups: list[Annotated[str, Field(min_length=1)]] = []
    forge: Forge | None = None

    @model_validator(mode="after")
    def _in_one_place(self) -> "_Service":
        if (self.path is None) == (self.url is None):
            raise ValueError("needs either a path or a url")
        if self.path is not None and (self.branch or self.folder):
            raise ValueError(
                "branch and folder belong to a url: let path name the service's folder itself"
            )
        return self


class _File(_Strict):
    template: str | None = Field(default=None, min_length=1)
    forge: Forge | None = None
    answers: dict[str, str | int | float | bool] = {}
    services: list[_Service] = Field(min_length=1)


def _parsed(file: Path) -> Roster:
    try:
        content = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise NoFleet(file) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFleetFile(file, str(error)) from error
    except ValidationError as error:
        raise BadFleetFile(file, "; ".join(_problems(error))) from error
    found = [
        replace(each, forge=service.forge or content.forge) if isinstance(each, Member) else each
        for service in content.services
        for each in _members(service, file)
    ]
    places = once(each.path for each in found if isinstance(each, Member) and each.path)
    again = _left_out(places)
    gone = {each.path for each in again}
    members = tuple(each for each in found if isinstance(each, Member) and each.path not in gone)
    names = [member.name for member in members]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadFleetFile(
            file, f"two services are called {twice!r}; give one of them another name"
        )
    left_out = (*(each for each in found if isinstance(each, LeftOut)), *again)
    return Roster(file, members, content.template, content.answers, left_out)


def _members(service: _Service, file: Path) -> Iterator[Member | LeftOut]:
    groups = frozenset(service.groups)
    if service.url is not None:
        last = service.folder or re.split(r"[/:]", service.url.rstrip("/").removesuffix(".git"))[-1]
        name = service.name or PurePosixPath(last).name
        yield Member(
            name, url=service.url, branch=service.branch, folder=service.folder, groups=groups
        )
        return
    assert service.path is not None  # noqa: S101 - one of both is there, as validated
    root = Path(service.path).expanduser()
    paths = [file.parent / root]
    if "*" in service.path:
        if service.name:
            raise BadFleetFile(
                file, f"path {service.path!r} means many services, which cannot share a name"
            )
        base = Path(root.anchor) if root.is_absolute() else file.parent
        matches = sorted(base.glob(str(root.relative_to(root.anchor))))
        found = [each for match in matches if match.is_dir() for each in scan(match)]
        paths = [each for each in found if isinstance(each, Path)]
        if not paths:
            raise BadFleetFile(file, f"path {service.path!r} matches no service")
        yield from _left_out(found)
    for path in paths:
        place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would show what a link points to today
        yield Member(service.name or place.name, path=place, groups=groups)


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(
            f"{part + 1}" if isinstance(part, int) else str(part) for part in problem["loc"]
        )
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "is not known here"
        yield f"{where}: {message}" if where else message

"""What a fleet file may say: its fields, and the sentence for a wrong one.

Knows TOML and the fields; knows nothing of what a fleet does with them.
"""

import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dockyard.errors import DockyardError, one_line


class BadFleetFile(DockyardError):
    """A fleet file that cannot be read, or asks for what it does not have."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(
            f"{file}: {one_line(problem)}. "
            "The fields of a fleet file are in docs/reference/fleet-file.md."
        )


Forge = Literal["github", "gitlab", "gitea", "bitbucket", "azure"]
Until = Literal["updated", "green", "merged"]
_Text = Annotated[str, Field(min_length=1)]
_Answers = dict[str, str | int | float | bool]


def _inside(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a folder within the repository")
    return "" if str(path) == "." else str(path)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ServiceEntry(_Strict):
    """One of `[[services]]`: a service, or with a pattern several."""

    path: _Text | None = None
    url: _Text | None = None
    branch: _Text | None = None
    folder: Annotated[str, AfterValidator(_inside)] = ""
    name: _Text | None = None
    groups: list[_Text] = []
    forge: Forge | None = None
    answers: _Answers = {}

    @model_validator(mode="after")
    def _in_one_place(self) -> "ServiceEntry":
        if (self.path is None) == (self.url is None):
            raise ValueError("needs either a path or a url")
        if self.path is not None and (self.branch or self.folder):
            raise ValueError(
                "branch and folder belong to a url: let path name the service's folder itself"
            )
        return self


class GroupEntry(_Strict):
    """`[groups.NAME]`: what all services of a group have in common."""

    answers: _Answers = {}


class HostEntry(_Strict):
    """`[forges."HOST"]`: a forge that is not one of those that all the world uses."""

    kind: Forge
    api: Annotated[str, Field(pattern=r"^https?://[^/@]+(/.*)?$")] | None = None
    token: _Text
    """The variable that has the token."""


class ReviewEntry(_Strict):
    """`[pull_requests]`: who gets to see them, and whether they merge themselves."""

    labels: list[_Text] = []
    reviewers: list[_Text] = []
    auto_merge: bool = False


class WaveEntry(_Strict):
    """One of `[[waves]]`: the services that an update takes before the others."""

    name: _Text
    services: list[_Text] = []
    groups: list[_Text] = []
    until: Until = "updated"

    @model_validator(mode="after")
    def _of_somebody(self) -> "WaveEntry":
        if not self.services and not self.groups:
            raise ValueError("needs services or groups")
        return self


class WaiverEntry(_Strict):
    """One of `[[policy.waivers]]`: what may be for some time."""

    of: Literal["behind", "drift"]
    until: date
    reason: _Text
    services: list[_Text] = []
    groups: list[_Text] = []
    files: list[_Text] = ["*"]

    @model_validator(mode="after")
    def _of_somebody(self) -> "WaiverEntry":
        if not self.services and not self.groups:
            raise ValueError("needs services or groups")
        return self


class PolicyEntry(_Strict):
    """`[policy]`: what `fleet check` holds."""

    max_days_behind: Annotated[int, Field(ge=0)] | None = None
    max_days_drifted: Annotated[int, Field(ge=0)] | None = None
    waivers: list[WaiverEntry] = []


class FleetFile(_Strict):
    """The whole file."""

    template: _Text | None = None
    forge: Forge | None = None
    answers: _Answers = {}
    groups: dict[str, GroupEntry] = {}
    forges: dict[str, HostEntry] = {}
    pull_requests: ReviewEntry = ReviewEntry()
    policy: PolicyEntry | None = None
    waves: list[WaveEntry] = []
    services: list[ServiceEntry] = Field(min_length=1)


def understood(file: Path) -> FleetFile:
    """What `file` says. Raises FileNotFoundError and BadFleetFile."""
    try:
        return FleetFile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFleetFile(file, str(error)) from error
    except ValidationError as error:
        raise BadFleetFile(file, "; ".join(_problems(error))) from error


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(
            f"{part + 1}" if isinstance(part, int) else str(part) for part in problem["loc"]
        )
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "is not known here"
        yield f"{where}: {message}" if where else message

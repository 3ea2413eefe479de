"""A template, its versions and a service as plain values, and what ownership makes of them.

Knows no git, no Copier and no Dockyard: it is what the engine is measured by.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

REGULAR, EXECUTABLE, SYMLINK = "100644", "100755", "120000"
ANSWERS_FILE = ".copier-answers.yml"


class File(NamedTuple):
    """A file or symlink of a template or a service."""

    content: bytes
    mode: str = REGULAR
    templated: bool = False
    """Whether Jinja reads it; a rendered file never is."""


Files = Mapping[str, File]


@dataclass(frozen=True)
class Version:
    """A template at one commit, with a service's paths. `/path` in `yours` is a file or folder."""

    files: Files
    yours: tuple[str, ...]
    questions: Mapping[str, str] = field(default_factory=dict)
    """Beyond the service's name: each with its default."""


@dataclass(frozen=True)
class Scenario:
    """A service that was rendered from the first version, and is to get the last."""

    versions: tuple[Version, ...]
    answers: Mapping[str, str]
    service: Files
    """What the team has made of the first render."""
    place: str = ""
    """The service's folder in its repository, where it is not all of it."""

    @property
    def first_render(self) -> Files:
        """The service as it was laid down."""
        return rendered(self.versions[0], self.answers)


def rendered(version: Version, answers: Mapping[str, str]) -> Files:
    """What a service with `answers` gets of `version`, the answers file left out."""
    said = {"service_name": "billing-svc", **version.questions, **answers}
    return {path: _filled(file, said) for path, file in version.files.items()}


def _filled(file: File, answers: Mapping[str, str]) -> File:
    content = file.content
    if file.templated:
        for question, answer in answers.items():
            content = content.replace(b"{{ %s }}" % question.encode(), answer.encode())
    return File(content, file.mode)


def owns(version: Version, path: str) -> bool:
    """Whether `version` says that `path` is the team's."""
    return any(
        f"/{path}" == pattern or f"/{path}".startswith(f"{pattern}/") for pattern in version.yours
    )


def untouched_after(scenario: Scenario) -> Files:
    """An untouched service after the update: a fresh render, and the team's files as they were."""
    newest = scenario.versions[-1]
    before, fresh = scenario.first_render, rendered(newest, scenario.answers)
    kept = {path: file for path, file in before.items() if owns(newest, path)}
    managed = {path: file for path, file in fresh.items() if not owns(newest, path)}
    seeded = {
        path: file
        for path, file in fresh.items()
        if owns(newest, path)
        and path not in before
        and not any(clash(path, other) for other in kept)
    }
    return kept | managed | seeded


def clash(one: str, other: str) -> bool:
    """Whether no folder can hold both paths, since one of them would be a folder and a file."""
    return one.startswith(f"{other}/") or other.startswith(f"{one}/")


def lines(files: Files, author: str) -> set[bytes]:
    """All lines that `author` wrote. Each begins with the author's name and is unique."""
    return {
        line.rstrip(b"\r")
        for file in files.values()
        for line in file.content.split(b"\n")
        if line.startswith(author.encode())
    }

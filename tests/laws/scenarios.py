"""Random scenarios: answers, a template's history, and what a team did to its service meanwhile.

Every line names its author and is unique, so that a lost one is seen. Paths come from a small set,
so that changes meet. Knows the model alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count

from hypothesis import strategies as st

from tests.laws.model import (
    ANSWERS_FILE,
    EXECUTABLE,
    REGULAR,
    SYMLINK,
    File,
    Files,
    Scenario,
    Version,
    clash,
    rendered,
)
from tests.template import lab

_MANAGED = (
    "a",
    "b.txt",
    "B.txt",
    "docs/c.md",
    "docs/d.md",
    "bin/run",
    "a/inner.txt",
    "win.txt",
    "naïve name",
)
_YOURS = ("mine/e.py", "mine/f.py", "mine/deep/g.py", "local.mk")
_TEAMS_OWN = ("team.txt", "docs/team.md", "mine/team.py")
_OWNERSHIP = ("/mine", "/local.mk")
_LONGEST_HISTORY = 3
_MOST_CHANGES = 4


@dataclass
class _Author:
    """Draws lines, files and changes, in the name of one version of the template or of the team."""

    draw: st.DrawFn
    name: str
    numbers: "count[int]" = field(default_factory=count)

    def line(self) -> bytes:
        return f"{self.name} wrote line {next(self.numbers)}".encode()

    def text(self, path: str) -> File:
        ending = b"\r\n" if path.startswith("win") else b"\n"
        written = [self.line() for _ in range(self.draw(st.integers(1, 6)))]
        last = ending if self.draw(st.booleans()) else b""
        return File(ending.join(written) + last)

    def binary(self) -> File:
        return File(b"\0\xff\n" + self.line() + b"\n\xfe\0")

    def link(self) -> File:
        return File(self.line(), SYMLINK)

    def edited(self, file: File) -> File:
        """`file` with one line put in, replaced, or taken out."""
        parts = file.content.split(b"\n")
        place = self.draw(st.integers(0, len(parts) - 1))
        ending = b"\r" if parts[0].endswith(b"\r") else b""
        span, new = self.draw(st.sampled_from([(0, True), (1, True), (1, False)]))
        parts[place : place + span] = [self.line() + ending] if new else []
        return file._replace(content=b"\n".join(parts))

    def pick(self, options: Iterable[str]) -> str | None:
        listed = list(options)
        return self.draw(st.sampled_from(listed)) if listed else None

    def free(self, files: Files, room: Iterable[str]) -> str | None:
        """A path of `room` that `files` can take."""
        taken = [*files]
        return self.pick(
            path
            for path in room
            if path not in files and not any(clash(path, each) for each in taken)
        )


def _texts(files: Files) -> list[str]:
    return [
        path for path, file in files.items() if file.mode != SYMLINK and b"\0" not in file.content
    ]


# --- Changes that both sides make. Each gives the files, changed if that is possible.


def _edit(author: _Author, files: Files, room: Iterable[str]) -> Files:
    path = author.pick(_texts(files))
    return files if path is None else {**files, path: author.edited(files[path])}


def _add(author: _Author, files: Files, room: Iterable[str]) -> Files:
    path = author.free(files, room)
    return files if path is None else {**files, path: author.text(path)}


def _add_binary(author: _Author, files: Files, room: Iterable[str]) -> Files:
    path = author.free(files, room)
    return files if path is None else {**files, path: author.binary()}


def _delete(author: _Author, files: Files, room: Iterable[str]) -> Files:
    gone = author.pick(files)
    return {path: file for path, file in files.items() if path != gone}


def _move(author: _Author, files: Files, room: Iterable[str]) -> Files:
    """A file is renamed or moved, also from the platform to the team: the paths decide."""
    old = author.pick(files)
    rest = {path: file for path, file in files.items() if path != old}
    new = author.free(rest, room)
    return files if old is None or new is None else {**rest, new: files[old]}


def _switch_mode(author: _Author, files: Files, room: Iterable[str]) -> Files:
    path = author.pick(path for path, file in files.items() if file.mode != SYMLINK)
    if path is None:
        return files
    mode = EXECUTABLE if files[path].mode == REGULAR else REGULAR
    return {**files, path: files[path]._replace(mode=mode)}


def _make_binary(author: _Author, files: Files, room: Iterable[str]) -> Files:
    path = author.pick(files)
    return files if path is None else {**files, path: author.binary()}


def _make_link(author: _Author, files: Files, room: Iterable[str]) -> Files:
    path = author.pick(files)
    return files if path is None else {**files, path: author.link()}


_Change = Callable[[_Author, Files, Iterable[str]], Files]
_TEAMS: tuple[_Change, ...] = (
    *(_edit, _edit, _edit, _add, _delete, _move),
    *(_switch_mode, _add_binary, _make_binary, _make_link),
)


# --- Changes that only a template makes


def _ask(author: _Author, version: Version) -> Version:
    """A new question, and a managed file that depends on it."""
    question = f"q{len(version.questions)}"
    path = author.free(version.files, _MANAGED)
    asked = replace(version, questions={**version.questions, question: f"{author.name} default"})
    if path is None:
        return asked
    content = author.line() + b" {{ %s }}\n" % question.encode()
    return replace(asked, files={**version.files, path: File(content, templated=True)})


def _hand_over(author: _Author, version: Version) -> Version:
    path = author.pick(path for path in version.files if f"/{path}" not in version.yours)
    return version if path is None else replace(version, yours=(*version.yours, f"/{path}"))


def _take_back(author: _Author, version: Version) -> Version:
    gone = author.pick(version.yours)
    return replace(version, yours=tuple(pattern for pattern in version.yours if pattern != gone))


def _link(author: _Author, version: Version) -> Version:
    return replace(version, files=_make_link(author, version.files, ()))


def _to_files(change: _Change) -> Callable[[_Author, Version], Version]:
    return lambda author, version: replace(
        version, files=change(author, version.files, [*_MANAGED, *_YOURS])
    )


# A template with a link is rendered by Copier's slow way, so links are rare.
_PLATFORMS = (
    *map(
        _to_files,
        2
        * [
            _edit,
            _edit,
            _edit,
            _edit,
            _add,
            _add,
            _delete,
            _move,
            _move,
            _switch_mode,
            _add_binary,
        ],
    ),
    *(_ask, _ask, _hand_over, _take_back, _link),
)


# --- Strategies


def _first_version(draw: st.DrawFn) -> Version:
    author = _Author(draw, "v0")
    files: dict[str, File] = {}
    for path in draw(
        st.lists(st.sampled_from([*_MANAGED, *_YOURS]), min_size=2, max_size=7, unique=True)
    ):
        if any(clash(path, other) for other in files):
            continue
        file = author.text(path)
        if not path.startswith("win") and draw(st.booleans()):
            greeting = (
                b"v0 greets {{ service_name }} with {{ flavour }} at " + path.encode() + b"\n"
            )
            file = File(greeting + file.content, templated=True)
        files[path] = file
    return Version(files, _OWNERSHIP, {"flavour": "plain"})


def _next_version(draw: st.DrawFn, version: Version, number: int) -> Version:
    author = _Author(draw, f"v{number}")
    for change in draw(st.lists(st.sampled_from(_PLATFORMS), max_size=_MOST_CHANGES)):
        version = change(author, version)
    return version


def _edits(draw: st.DrawFn, files: Files, changes: Iterable[_Change]) -> Files:
    author = _Author(draw, "team")
    for change in draw(st.lists(st.sampled_from([*changes]), min_size=1, max_size=_MOST_CHANGES)):
        files = change(author, files, [*_MANAGED, *_YOURS, *_TEAMS_OWN])
    return files


@st.composite
def scenarios(draw: st.DrawFn, *, edited: bool = True) -> Scenario:
    """A template of two or three versions, and a service of the first, `edited` by its team."""
    versions = [_first_version(draw)]
    for number in range(1, draw(st.integers(2, _LONGEST_HISTORY))):
        versions.append(_next_version(draw, versions[-1], number))
    answers = {"flavour": draw(st.sampled_from(["plain", "sour", "sweet & 'salty'"]))}
    service = rendered(versions[0], answers)
    place = draw(st.sampled_from(["", "", "", "apps/billing-svc"]))
    return Scenario(
        tuple(versions), answers, _edits(draw, service, _TEAMS) if edited else service, place
    )


@st.composite
def lossless(draw: st.DrawFn) -> Scenario:
    """A scenario in which plain Copier loses nothing: edits and additions, in files it merges."""
    first = _first_version(draw)
    author = _Author(draw, "v1")
    newest = first
    for change in draw(
        st.lists(
            st.sampled_from([*map(_to_files, (_edit, _edit, _add)), _ask]), max_size=_MOST_CHANGES
        )
    ):
        newest = change(author, newest)
    answers = {"flavour": draw(st.sampled_from(["plain", "sour"]))}
    service = _edits(draw, rendered(first, answers), (_edit, _edit, _add))
    return Scenario((first, newest), answers, service)


_REAL_ROOM = (
    "template/added.txt",
    "template/docs/added.md",
    "template/src/added.py",
    "template/chassis/added.py",
)
_NEW_QUESTION = b'\n---\nextra:\n  type: str\n  default: "some {{ owner }}"\n'


@st.composite
def newer_release(draw: st.DrawFn, release: Files) -> Files:
    """The files of a real template after changes. Files that Jinja reads only grow: still valid."""
    author = _Author(draw, "v1")
    fixed = {
        path: file
        for path, file in release.items()
        if "{" in path or path.endswith((".jinja", "copier.yml", lab.ORGANISATION))
    }
    free: Files = {path: file for path, file in release.items() if path not in fixed}
    for change in draw(
        st.lists(st.sampled_from([_edit, _edit, _add, _delete, _move, _switch_mode]), min_size=1)
    ):
        free = change(author, free, _REAL_ROOM)
    grown = draw(
        st.lists(
            st.sampled_from([path for path in fixed if path.endswith("Makefile.jinja")]), max_size=1
        )
    )
    fixed |= {
        path: File(fixed[path].content + b"# " + author.line() + b"\n", fixed[path].mode)
        for path in grown
    }
    if draw(st.booleans()):
        fixed["copier.yml"] = File(fixed["copier.yml"].content + _NEW_QUESTION)
    return {**free, **fixed}


@st.composite
def edited_service(draw: st.DrawFn, service: Files) -> Files:
    """The files of a real service after some work of its team; the answers file is as it was."""
    answers = {path: file for path, file in service.items() if path == ANSWERS_FILE}
    rest = {path: file for path, file in service.items() if path not in answers}
    return {**_edits(draw, rest, _TEAMS), **answers}

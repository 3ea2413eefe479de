"""What a service's files say of the answers that rendered it, and how near a render is to them.

An answer in free words is read off. The template is rendered with a mark for the answer; where the
mark comes out, the service has the answer. Knows files as lines; knows nothing of versions or of
what is done with the findings.
"""

import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from dockyard.programs import git
from dockyard.programs.tree import SUBMODULE, Entries, Entry
from dockyard.updating.scratch_repository import ScratchRepository

_MOST_READINGS = 3
_LINK = "120000"


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near a file of a render is to the service's file at the same path."""

    path: str
    common: int
    """Lines that both have."""
    lines: int
    """Lines of the render."""
    is_equal: bool
    """Whether the file is the same to the byte and the mode."""

    @property
    def share(self) -> float:
        """From 0 to 1: how much of the render the service has."""
        if self.is_equal or not self.lines:
            return float(self.is_equal)
        return self.common / self.lines


class Shelf:
    """The lines of files, each read from git once."""

    def __init__(self, scratch: ScratchRepository) -> None:
        self._scratch = scratch
        self._lines: dict[str, Counter[bytes]] = {}

    def lines(self, entry: Entry) -> Counter[bytes]:
        """The lines of the file `entry`, each with how often it occurs."""
        if entry.mode == SUBMODULE:
            return Counter([entry.oid.encode()])
        if entry.oid not in self._lines:
            content = git.output(
                "cat-file", "blob", entry.oid, folder=self._scratch.folder, env=self._scratch.env
            )
            self._lines[entry.oid] = Counter(content.splitlines())
        return self._lines[entry.oid]


def likeness(shelf: Shelf, rendered: Entries, present: Entries) -> tuple[Likeness, ...]:
    """How near each file of `rendered` is to the one in `present`."""
    contents = {entry.oid: entry for entry in present.values()}
    return tuple(
        # A file that the team only renamed was rendered too.
        _compared(shelf, path, entry, present.get(path), contents.get(entry.oid))
        for path, entry in sorted(rendered.items())
    )


def nearness(files: Iterable[Likeness]) -> int:
    """One figure for what a render explains: lines found minus lines missed."""
    return sum(2 * file.common - file.lines for file in files)


def share(files: Iterable[Likeness]) -> float:
    """From 0 to 1: how much of these files, by lines, the service has."""
    listed = list(files)
    return sum(file.common for file in listed) / max(1, sum(file.lines for file in listed))


def readings(
    shelf: Shelf, marked: Entries, present: Entries, marks: Mapping[str, str]
) -> dict[str, list[str]]:
    """What `present` has where the render `marked` has the mark of a question, for all of `marks`.

    A few readings each, the most frequent first, each also as it may have been spelled.
    """
    votes: dict[str, Counter[str]] = {question: Counter() for question in marks}
    for path, entry in marked.items():
        for own_path, found in _matches(path, present, marks):
            _count(found, votes)
            if entry.mode == _LINK:
                continue
            for line in shelf.lines(entry):
                for found_in_line in _read(line, shelf.lines(present[own_path]), marks):
                    _count(found_in_line, votes)
    return {
        question: [
            spelled
            for value, _ in counted.most_common(_MOST_READINGS)
            for spelled in _spellings(value)
        ]
        for question, counted in votes.items()
    }


def _compared(
    shelf: Shelf, path: str, entry: Entry, present: Entry | None, elsewhere: Entry | None
) -> Likeness:
    own, found = shelf.lines(entry), present or elsewhere
    if found is None:
        return Likeness(path, 0, own.total(), is_equal=False)
    common = own.total() if entry.oid == found.oid else (own & shelf.lines(found)).total()
    return Likeness(path, common, own.total(), is_equal=entry == present)


def _matches(
    path: str, present: Entries, marks: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The paths in `present` that `path` may stand for, and what they say of the answers."""
    pattern = _pattern(path, marks, "[^/]+")
    if pattern is None:
        if path in present:
            yield path, {}
        return
    for own in present:
        if match := pattern.fullmatch(own):
            yield own, match.groupdict()


def _read(
    line: bytes, lines: Iterable[bytes], marks: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    pattern = _pattern(line.decode("utf-8", "surrogateescape"), marks, ".+")
    if pattern is None or not _says_enough(pattern.pattern):
        return
    for own in lines:
        if match := pattern.fullmatch(own.decode("utf-8", "surrogateescape")):
            yield match.groupdict()


def _pattern(text: str, marks: Mapping[str, str], anything: str) -> re.Pattern[str] | None:
    """`text` as a pattern with a group in each mark's place; None without a mark."""
    questions = {mark: question for question, mark in marks.items()}
    longest = sorted(questions, key=len, reverse=True)
    seen: set[str] = set()
    parts = []
    for part in (
        re.split("(" + "|".join(map(re.escape, longest)) + ")", text) if longest else [text]
    ):
        question = questions.get(part)
        if question is None:
            parts.append(re.escape(part))
        elif question in seen:
            parts.append(f"(?P={question})")
        else:
            seen.add(question)
            parts.append(f"(?P<{question}>{anything})")
    return re.compile("".join(parts)) if seen else None


def _says_enough(pattern: str) -> bool:
    """Whether a line has words beside the answer. A line without would match every other."""
    return len(re.sub(r"\(\?P.*?\)|\W", "", pattern)) > 0


def _count(found: Mapping[str, str], votes: Mapping[str, Counter[str]]) -> None:
    for question, value in found.items():
        votes[question][value] += 1


def _spellings(value: str) -> Iterator[str]:
    """`value`, and what it may be in a file that has another form for it."""
    yield value
    with suppress(ValueError):
        yield str(json.loads(f'"{value}"'))
    yield value.replace("''", "'")
    yield html.unescape(value)
    yield value.strip()
    # A name comes out with other hyphens.
    yield value.replace("_", "-")
    yield value.replace("-", "_")

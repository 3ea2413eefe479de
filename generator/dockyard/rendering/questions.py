"""Reads a template's copier.yml as Copier does: its sections and the files that it includes.

Knows YAML and Copier's rules of joining; knows nothing of git or of where the files are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pathspec import PathSpec

# Copier joins these lists; of anything else the last section counts.
_JOINED = ("_exclude", "_jinja_extensions", "_secret_questions", "_skip_if_exists")

Read = Callable[[str], str]
"""The text of a file, by its path from the template's root."""


class OtherThanQuestionsError(ValueError):
    """A section holds something else than questions and settings."""


def read(file: str, names: Iterable[str], text: Read) -> dict[str, Any]:
    """All questions and settings of the template with the files `names`, whose main file is `file`.

    Raises YAMLError and OtherThanQuestionsError.
    """
    sections = [*_sections(file, [*names], text)]
    if not all(isinstance(section, Mapping) for section in sections):
        raise OtherThanQuestionsError
    found = {str(key): value for section in sections for key, value in section.items()}
    for key in _JOINED:
        parts = [section[key] for section in sections if key in section]
        if len(parts) > 1:
            found[key] = [each for part in parts for each in part]
    return found


def read_folder(folder: Path) -> dict[str, Any]:
    """As `read`, for the template in `folder`, whose main file is copier.yml."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*.y*ml"))
    return read("copier.yml", names, lambda name: (folder / name).read_text("utf-8"))


def _sections(file: str, names: list[str], text: Read) -> Iterator[Any]:
    class Loader(yaml.SafeLoader):
        """Of this template alone: it includes the template's files."""

    def include(_: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
        pattern = PathSpec.from_lines("gitignore", [f"/{node.value}"])
        return [section for name in pattern.match_files(names) for section in _flat(loaded(name))]

    def loaded(name: str) -> list[Any]:
        return [*yaml.load_all(text(name), Loader)]

    Loader.add_constructor("!include", include)
    return _flat(loaded(file))


def _flat(sections: Iterable[Any]) -> Iterator[Any]:
    for section in sections:
        if isinstance(section, list):
            yield from _flat(section)
        elif section:
            yield section

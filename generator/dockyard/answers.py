"""Answers to a template's questions: as `--data` gives them, and as a service records them.

Which answers are allowed is said in `copier.yml`; `rendering.copying` reports a refused one. Knows
the answers file; knows nothing of git, of rendering or of what an answer does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dockyard.errors import BadData, BrokenAnswers

ANSWERS_FILE = ".copier-answers.yml"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a service's answers file says."""

    source: str
    """The template's address, `_src_path`."""
    version: str
    """The template's version, `_commit`."""
    answers: Mapping[str, Any]
    file: str = ANSWERS_FILE
    """Path of the answers file, relative to the service."""


def parse_data(texts: Iterable[str]) -> dict[str, str]:
    """The answers in texts of the form `question=answer`. Raises BadData."""
    answers = {}
    for text in texts:
        question, equals, answer = text.partition("=")
        if not equals or not question:
            raise BadData(text)
        answers[question] = answer
    return answers


def read(root: Path, file: str) -> Recorded:
    """What the answers file `file` of the service in `root` says. Raises BrokenAnswers."""
    path = root / file
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenAnswers(path, str(error)) from error
    return understood(text, path, file)


def understood(text: str, path: Path, file: str) -> Recorded:
    """What `text`, the contents of the answers file at `path`, says. Raises BrokenAnswers."""
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BrokenAnswers(path, str(error)) from error
    if not isinstance(said, dict):
        raise BrokenAnswers(path, "it holds no answers")
    missing = [
        key
        for key in ("_src_path", "_commit")
        if not isinstance(said.get(key), str) or not said[key]
    ]
    if missing:
        raise BrokenAnswers(path, f"{' and '.join(missing)} is missing, or is not a text")
    answers = {str(key): value for key, value in said.items() if not str(key).startswith("_")}
    return Recorded(said["_src_path"], said["_commit"], answers, file)


def parsed(text: str) -> dict[str, Any]:
    """Every key in the text of an answers file, Copier's own included; empty if it is not YAML."""
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return {str(key): value for key, value in said.items()} if isinstance(said, dict) else {}

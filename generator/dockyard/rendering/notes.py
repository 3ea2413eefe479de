"""What a template's CHANGELOG.md says between two versions. Knows nothing of services."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from dockyard.programs import git
from dockyard.rendering.template import Template

_FILE = "CHANGELOG.md"


def between(old: Template, new: Template) -> str:
    """The lines that only `new` has, below their headings. Empty without such lines or a file."""
    after = _lines(new.source.repository, new.commit)
    before = set(_lines(old.source.repository, old.commit)) if after else set()
    kept: list[str] = []
    headings: dict[int, str] = {}
    for line in after:
        level = len(line) - len(line.lstrip("#"))
        if level:
            headings = {above: text for above, text in headings.items() if above < level} | {
                level: line
            }
        elif line and line not in before:
            # The file's own title is no news.
            kept += [
                text for above, text in sorted(headings.items()) if above > 1 and text not in kept
            ]
            headings = {}
            kept.append(line)
    return "\n".join(kept)


@lru_cache(maxsize=64)
def _lines(repository: Path, commit: str) -> Sequence[str]:
    try:
        text = git.run("show", f"{commit}:{_FILE}", folder=repository)
    except git.GitFailed:
        return []
    return [line.rstrip() for line in text.splitlines()]

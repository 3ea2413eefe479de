"""What a template's CHANGELOG.md says of the way from one version to another. Knows nothing of services."""

from dockyard import git
from dockyard.template import Template

_FILE = "CHANGELOG.md"


def between(old: Template, new: Template) -> str:
    """The lines that `new` has and `old` has not, below their headings; empty without such a file, or without news."""
    after = _lines(new)
    before = set(_lines(old)) if after else set()
    kept: list[str] = []
    headings: dict[int, str] = {}
    for line in after:
        level = len(line) - len(line.lstrip("#"))
        if level:
            headings = {above: text for above, text in headings.items() if above < level} | {level: line}
        elif line and line not in before:
            # The file's own title is no news.
            kept += [text for above, text in sorted(headings.items()) if above > 1 and text not in kept]
            headings = {}
            kept.append(line)
    return "\n".join(kept)


def _lines(template: Template) -> list[str]:
    try:
        text = git.run("show", f"{template.commit}:{_FILE}", folder=template.source.repository)
    except git.GitFailed:
        return []
    return [line.rstrip() for line in text.splitlines()]

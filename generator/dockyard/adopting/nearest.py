"""Which version of a template is nearest to a service, for when what is recorded leads nowhere.

Compares renders with the service's files; decides nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dockyard.errors import CannotCache, DockyardError
from dockyard.programs import git
from dockyard.rendering.render import render_tree
from dockyard.rendering.source import Source
from dockyard.rendering.template import Template, newest_first, template_at, version_tags
from dockyard.service import Service, files
from dockyard.updating.merge import owned
from dockyard.updating.scratch_repository import open_bench

_CANDIDATES = 12


@dataclass(frozen=True, slots=True)
class Nearest:
    """A version, and how many of its managed files the service has just so."""

    template: Template
    equal: int
    managed: int

    def __str__(self) -> str:
        return (
            f"{self.template.version} ({self.equal} of {self.managed} managed files are the same)"
        )


def nearest(service: Service, source: Source) -> Nearest | None:
    """The nearest of the newest releases, or without releases of the newest commits; None when none can be rendered.

    Renders use the answers that `service` records.
    """
    present = files(service)
    best: Nearest | None = None
    with open_bench(service) as bench:
        for commit in _candidates(source):
            try:
                template = template_at(source, commit)
                render = render_tree(template, service.recorded, service.root.name)
            except CannotCache:
                raise
            except DockyardError:
                # One that cannot be rendered with these answers is not what rendered them.
                continue
            is_yours = owned(template.yours)
            rendered = {
                path: entry
                for path, entry in bench.entries(render.tree).items()
                if not is_yours(path)
            }
            rendered.pop(service.recorded.file, None)
            equal = sum(present.get(path) == entry for path, entry in rendered.items())
            found = Nearest(template, equal, len(rendered))
            if equal and (best is None or _share(found) > _share(best)):
                best = found
    return best


def _share(found: Nearest) -> float:
    return found.equal / found.managed


def _candidates(source: Source) -> Iterable[str]:
    tags = newest_first(version_tags(source))[:_CANDIDATES]
    if tags:
        return dict.fromkeys(tag.commit for tag in tags)
    listed = git.run(
        "rev-list",
        "--first-parent",
        f"--max-count={_CANDIDATES}",
        source.head,
        folder=source.repository,
    )
    return listed.split()

"""Which version of a template is nearest to a service, as a hint if what it records leads nowhere.

Compares renders with the service's files; decides nothing.
"""

from dataclasses import dataclass

from dockyard.errors import DockyardError
from dockyard.programs.cache import CannotCache
from dockyard.rendering.render import render_tree
from dockyard.rendering.source import Source
from dockyard.rendering.template import Template, newest_commits, template_at
from dockyard.service import Service, files
from dockyard.updating.merge import owned
from dockyard.updating.scratch_repository import open_scratch

_MOST = 12


@dataclass(frozen=True, slots=True)
class Nearest:
    """A version, and how many of its managed files the service has unchanged."""

    template: Template
    equal: int
    managed: int

    def __str__(self) -> str:
        return (
            f"{self.template.version} ({self.equal} of {self.managed} managed files are the same)"
        )


def nearest(service: Service, source: Source) -> Nearest | None:
    """The nearest of the newest releases, or without releases of the newest commits.

    Renders use the answers that `service` records. None if no version can be rendered, or none has
    a file of the service.
    """
    best: Nearest | None = None
    with open_scratch(service) as scratch:
        present = files(service)
        for commit in newest_commits(source, releases=_MOST, commits=_MOST):
            try:
                template = template_at(source, commit)
                render = render_tree(template, service.recorded, service.root.name)
            except CannotCache:
                raise
            except DockyardError:
                # A version that cannot be rendered with these answers did not render them.
                continue
            is_yours = owned(template.yours)
            rendered = {
                path: entry
                for path, entry in scratch.entries(render.tree).items()
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

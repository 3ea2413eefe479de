"""Since when a service lacks a release, and since when its managed files have drifted.

Knows git's dates; judges nothing.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from dockyard.programs import git
from dockyard.programs.tree import Entries
from dockyard.service import Service
from dockyard.updating.versions import Step, missing


def lacking_since(way: Step) -> datetime | None:
    """When the oldest release that the service lacks was made; None if it lacks none."""
    if way.is_none:
        return None
    commits = missing(way) or {way.target.commit}
    how = ("log", "--no-walk", "--format=%ct", "--end-of-options", *sorted(commits))
    told = git.run(*how, folder=way.target.source.repository, env=git.isolated_environment())
    return _moment(min(told.split(), key=int))


def drifted_since(
    service: Service, rendered: Entries, paths: Collection[str]
) -> Mapping[str, datetime]:
    """Since when each of `paths` differs from what was rendered, as far as the history tells.

    That is the team's oldest commit of the file since the file was as rendered. An update that
    carries drift along does not make it young. A file that only the working tree changes is absent.
    """
    if not paths:
        return {}
    form = ("--raw", "--no-abbrev", "--no-renames", "-z", "--format=@%ct")
    way = ("--first-parent", "--diff-merges=first-parent", "--relative", service.head)
    told = git.run(
        *(
            "log",
            *form,
            *way,
            "--",
            service.recorded.file,
            *(f":(literal){path}" for path in paths),
        ),
        folder=service.root,
        env=git.isolated_environment(),
    )
    since: dict[str, datetime] = {}
    settled: set[str] = set()
    for moment, changed in _commits(told):
        is_update = service.recorded.file in changed
        for path, oid in changed.items():
            if path in settled or path == service.recorded.file:
                continue
            if path in rendered and oid == rendered[path].oid:
                settled.add(path)
            elif not is_update:
                since[path] = moment
    return since


def _commits(told: str) -> list[tuple[datetime, dict[str, str]]]:
    """The commits, newest first: when, and the object of each file that it changed."""
    found: list[tuple[datetime, dict[str, str]]] = []
    fields = iter(told.split("\0"))
    for field in fields:
        text = field.strip("\n")
        if text.startswith("@"):
            found.append((_moment(text[1:].strip()), {}))
        elif text.startswith(":"):
            found[-1][1][next(fields)] = text.split(" ")[3]
    return found


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)

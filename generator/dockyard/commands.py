"""The commands of one service, without their words: update, check, diff, restore.

Each opens the service, works in a scratch repository and returns a frozen result. `show` says the
result to people, `record` to programs. Prints nothing and asks nothing.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dockyard.adopting.nearest import nearest
from dockyard.errors import CannotGoTogether, DirtyService
from dockyard.programs.tree import Entries, shown
from dockyard.rendering.healing import healed
from dockyard.rendering.source import Source
from dockyard.service import Service, files, open_at, open_service, place, require_clean
from dockyard.updating import apply, objects, worktree
from dockyard.updating.changes import changes, refuse_unknown_files
from dockyard.updating.drift import Drift, chosen, drift, patch
from dockyard.updating.plan import Plan, after, plan
from dockyard.updating.scratch_repository import ScratchRepository, open_scratch
from dockyard.updating.versions import (
    Step,
    VersionLost,
    behind,
    moved,
    recorded_template,
    source_of,
    step,
    steps,
)


class Outcome(StrEnum):
    """How an update ended."""

    NOTHING = "nothing"
    """The service has the wanted version, and the given answers, already."""
    PREDICTED = "predicted"
    """A dry run: nothing was written."""
    COMMITTED = "committed"
    """On the branch."""
    WRITTEN = "written"
    """In the working tree, with the conflicts, if any, left to solve."""
    BLOCKED = "blocked"
    """A branch cannot hold conflicts: nothing was written."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update did, or would do."""

    service: Service
    outcome: Outcome
    plans: tuple[Plan, ...]
    """One, or with `by_release` one a release; none if there was nothing to do."""
    committed: apply.Committed | None
    warnings: tuple[str, ...]

    @property
    def conflicts(self) -> int:
        """How many files a person has to look at."""
        return sum(len(each.merge.decisions) for each in self.plans)

    @property
    def tree(self) -> str:
        """Id of the tree of the service's folder that comes out."""
        return self.plans[-1].merge.tree if self.plans else self.service.tree


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a service is current and clean."""

    service: Service
    step: Step
    behind: int
    """Releases between; 0 if it has the newest version."""
    drift: Drift
    warnings: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to do."""
        return self.behind == 0 and not self.drift.files


@dataclass(frozen=True, slots=True)
class Difference:
    """What `diff` shows."""

    service: Service
    patch: bytes
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """Managed files that are as they were rendered again."""

    service: Service
    paths: tuple[str, ...]
    warnings: tuple[str, ...]


def update(
    path: Path,
    *,
    to: str | None = None,
    data: Mapping[str, str] | None = None,
    dry_run: bool = False,
    in_place: bool = False,
    by_release: bool = False,
    at: str | None = None,
) -> Updated:
    """Bring the service in `path` to the version `to`, by default the newest release.

    The result is a commit on a branch of its own; with `by_release`, a commit for each release
    between; with `in_place`, changes in the working tree. With conflicts no branch is written. The
    dry run gives the result of the same update done next, conflicts included. With the commit `at`
    the update starts there, not from the commit that is checked out. Raises a DockyardError if it
    cannot; then the service is as it was.
    """
    if in_place and by_release:
        raise CannotGoTogether("--in-place", "--step", "the one makes no commit, the other several")
    how = _How(to, data or {}, dry_run=dry_run, in_place=in_place, by_release=by_release, at=at)
    return healed(lambda: _update(path, how))


@dataclass(frozen=True, slots=True)
class _How:
    """The options of an update."""

    to: str | None
    data: Mapping[str, str]
    dry_run: bool
    in_place: bool
    by_release: bool
    at: str | None


def _update(path: Path, how: _How) -> Updated:
    with _opened(path, how.at) as (service, scratch, source, warnings):
        require_clean(service)
        find = steps if how.by_release else _one_step
        ways = find(service, source, how.to)
        if uncommitted := ways[-1].target.uncommitted:
            warnings.append(
                f"{uncommitted} uncommitted changes in {source.recorded} are not part of the update"
            )
        warnings.extend(filter(None, [moved(service, ways[0])]))
        if ways[0].is_none and not how.data:
            return Updated(service, Outcome.NOTHING, (), None, tuple(warnings))
        plans = tuple(_plans(scratch, service, ways, how.data))
        if all(each.is_empty for each in plans):
            return Updated(service, Outcome.NOTHING, (), None, tuple(warnings))
        outcome, committed = _applied(scratch, plans, how)
        return Updated(service, outcome, plans, committed, tuple(warnings))


def _one_step(service: Service, source: Source, to: str | None) -> list[Step]:
    return [step(service, source, to)]


def check(path: Path, to: str | None = None, at: str | None = None) -> Checked:
    """Whether the service in `path` is older than `to`, and which of its managed files drifted.

    `to` is the newest release by default. Files count as they lie on the disk, or as they are in
    the commit `at`.
    """
    return healed(lambda: _check(path, to, at))


def _check(path: Path, to: str | None, at: str | None) -> Checked:
    with _opened(path, at) as (service, scratch, source, warnings):
        way = step(service, source, to)
        warnings.extend(filter(None, [moved(service, way)]))
        return Checked(
            service, way, behind(way), drift(scratch, service, way.recorded), tuple(warnings)
        )


def diff(
    path: Path,
    to: str | None = None,
    *,
    colour: bool = False,
    folder: str = "",
    at: str | None = None,
) -> Difference:
    """The drift of the service in `path`; with `to`, what an update to that version would change.

    Paths of the patch begin with `folder`. With `at`, the service is as of that commit.
    """
    return healed(lambda: _diff(path, to, colour=colour, folder=folder, at=at))


def _diff(path: Path, to: str | None, *, colour: bool, folder: str, at: str | None) -> Difference:
    with _opened(path, at) as (service, scratch, source, warnings):
        if to is None:
            found = drift(scratch, service, recorded_template(service, source))
            before, now = found.rendered, found.present
        else:
            merged = plan(scratch, service, step(service, source, to)).merge
            before, now = merged.before, merged.after
        text = patch(scratch, before, now, colour=colour, folder=folder)
        return Difference(service, text, tuple(warnings))


def restore(path: Path, names: Collection[str] = ()) -> Restored:
    """Bring managed files of the service in `path` back to what was rendered, and stage them.

    `names` are relative to the service; without any, all files. Raises NotManaged for another path,
    DirtyService if uncommitted work would be lost.
    """
    return healed(lambda: _restore(path, names))


def _restore(path: Path, names: Collection[str]) -> Restored:
    with _opened(path) as (service, scratch, source, warnings):
        found = drift(scratch, service, recorded_template(service, source))
        paths = chosen(found, names)
        require_clean(service, paths)
        wanted = {name: found.rendered[name] for name in paths}
        before = _committed(
            service, {name: found.present[name] for name in paths if name in found.present}
        )
        objects.bring(scratch, service, [entry.oid for entry in wanted.values()])
        worktree.write(service, changes(service, before, wanted), among=paths)
        return Restored(service, tuple(paths), tuple(warnings))


@contextmanager
def _opened(
    path: Path, at: str | None = None
) -> Iterator[tuple[Service, ScratchRepository, Source, list[str]]]:
    """The service in `path`, a scratch repository for it, its template, and warnings so far.

    A version that the template no longer has gets a hint: the version nearest to the service.
    """
    warnings = []
    kept = worktree.recover(place(path))
    if kept is not None:
        since = f"; what was saved there since is in {', '.join(map(shown, kept))}" if kept else ""
        warnings.append(
            f"an earlier command was killed while it wrote to {path}: "
            f"what it had done is undone{since}"
        )
    service = open_service(path) if at is None else open_at(path, at)
    source = source_of(service)
    if source.stale is not None:
        warnings.append(f"{source.recorded} does not answer; its copy from the last time is used")
    with open_scratch(service) as scratch:
        try:
            yield service, scratch, source, warnings
        except VersionLost as error:
            found = nearest(service, source)
            if found is None:
                raise
            raise error.hinted(str(found)) from error


def _committed(service: Service, present: Entries) -> Entries:
    """The files of `present` that the commit has. Raises DirtyService if one differs there."""
    known = files(service)
    changed = [name for name, entry in present.items() if name in known and known[name] != entry]
    if changed:
        raise DirtyService(service.root, len(changed))
    return {name: entry for name, entry in present.items() if name in known}


def _plans(
    scratch: ScratchRepository, service: Service, ways: Collection[Step], data: Mapping[str, str]
) -> Iterator[Plan]:
    for number, way in enumerate(ways, start=1):
        # A later release may be the first to ask. A name that nobody knows is refused at the end.
        own = (
            data
            if number == len(ways)
            else {key: data[key] for key in way.target.questions if key in data}
        )
        made = plan(scratch, service, way, own)
        yield made
        if made.merge.conflicts:
            return
        service = after(made)


def _applied(
    scratch: ScratchRepository, plans: tuple[Plan, ...], how: _How
) -> tuple[Outcome, apply.Committed | None]:
    # Also for a branch: the merge of it would write over an ignored file without a word.
    for each in plans if plans[0].service.is_checked_out else ():
        refuse_unknown_files(
            each.service.repository, changes(each.service, each.merge.before, each.merge.after)
        )
    if how.dry_run:
        return Outcome.PREDICTED, None
    if how.in_place:
        apply.in_place(scratch, plans[0])
        return Outcome.WRITTEN, None
    if plans[-1].merge.conflicts:
        return Outcome.BLOCKED, None
    return Outcome.COMMITTED, apply.commit(scratch, plans)

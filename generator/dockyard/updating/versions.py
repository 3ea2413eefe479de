"""Which version of its template a service has, and which it is to get.

Knows a template's tags and history; knows nothing of files.
"""

from dataclasses import dataclass, replace

from packaging.version import Version

from dockyard.adopting.nearest import nearest
from dockyard.errors import CommitGone, Downgrade, FloatingVersion
from dockyard.programs import git
from dockyard.rendering.source import Source, locate
from dockyard.rendering.template import (
    Tag,
    Template,
    newest_first,
    resolve,
    template_at,
    version_tags,
)
from dockyard.service import Service


@dataclass(frozen=True, slots=True)
class Step:
    """From one version of a template to another."""

    recorded: Template
    target: Template

    @property
    def is_none(self) -> bool:
        """Whether the service has the wanted version."""
        return self.recorded.commit == self.target.commit


def source_of(service: Service) -> Source:
    """The repository of the service's template, under the address that the service records.

    A relative address counts from the service. Raises what `source.locate` raises.
    """
    address = service.recorded.source
    beside = service.root / address
    named = f"_src_path of {service.recorded.file}"
    return replace(locate(str(beside) if beside.is_dir() else address, named), recorded=address)


def recorded_template(
    service: Service, source: Source, tags: tuple[Tag, ...] | None = None
) -> Template:
    """The template at the version that `service` records. Raises CommitGone, FloatingVersion and NotATemplate."""
    version = service.recorded.version
    commit = resolve(source, version)
    if tags is None:
        tags = version_tags(source)
    if commit is None:
        raise CommitGone(version, source.recorded, service.recorded.file, _nearest(service, source))
    why = _why_floating(source, version, commit, tags)
    if why is not None:
        raise FloatingVersion(version, why, service.recorded.file, _nearest(service, source))
    return template_at(source, commit, tags)


def step(service: Service, source: Source, to: str | None = None) -> Step:
    """From what `service` has to `to`: a tag, branch or commit; without it the newest release.

    A service that is ahead of the newest release stays where it is. Raises what `recorded_template` raises,
    UnknownRef, and Downgrade when `to` is older than what the service has.
    """
    tags = version_tags(source)
    recorded = recorded_template(service, source, tags)
    target = template_at(source, to, tags, option="--to")
    if _is_older(target, recorded):
        if to is not None:
            raise Downgrade(target.version, recorded.version)
        target = recorded
    return Step(recorded, target)


def steps(service: Service, source: Source, to: str | None = None) -> list[Step]:
    """`step`, release by release: one Step for each that lies between, the wanted version last."""
    whole = step(service, source, to)
    if whole.is_none:
        return [whole]
    between = [
        template_at(source, tag.commit)
        for tag in reversed(newest_first(version_tags(source)))
        if not tag.version.is_prerelease
        and tag.commit not in {whole.recorded.commit, whole.target.commit}
        and _is_ancestor(whole.recorded.commit, tag.commit, source)
        and _is_ancestor(tag.commit, whole.target.commit, source)
    ]
    # Two tags of one commit are one step.
    stops = list({stop.commit: stop for stop in [*between, whole.target]}.values())
    return [
        Step(before, after) for before, after in zip([whole.recorded, *stops], stops, strict=False)
    ]


def behind(chosen: Step) -> int:
    """How many releases lie between, the wanted one included; 0 when the service has it, at least 1 otherwise."""
    if chosen.is_none:
        return 0
    source = chosen.recorded.source
    newer = {
        tag.commit
        for tag in version_tags(source)
        if not tag.version.is_prerelease
        and tag.commit != chosen.recorded.commit
        and _is_ancestor(chosen.recorded.commit, tag.commit, source)
        and _is_ancestor(tag.commit, chosen.target.commit, source)
    }
    return max(1, len(newer))


def _nearest(service: Service, source: Source) -> str | None:
    found = nearest(service, source)
    return str(found) if found else None


def _why_floating(source: Source, version: str, commit: str, tags: tuple[Tag, ...]) -> str | None:
    """In which way `version` is another commit every now and then; None for one that stays."""
    moved = _moved_to(version, commit, tags)
    if moved is not None:
        return f"a tag that moves and now marks {moved.name}"
    if any(tag.name == version for tag in tags):
        return None
    how = ("--symbolic-full-name", "--verify", "--quiet", "--end-of-options")
    ref = git.run("rev-parse", *how, version, folder=source.repository).strip()
    # Empty for an id and for what `git describe` says.
    return (
        "a branch, which moves"
        if ref == "HEAD" or ref.startswith(("refs/heads/", "refs/remotes/"))
        else None
    )


def _moved_to(version: str, commit: str, tags: tuple[Tag, ...]) -> Tag | None:
    """The release that the tag `version` has moved to, if it is a moving one: v1 beside v1.2.0 on the same commit."""
    recorded = next((tag for tag in tags if tag.name == version), None)
    if recorded is None:
        return None
    same_commit = [tag for tag in tags if tag.commit == commit and tag.version > recorded.version]
    length = len(recorded.version.release)
    finer = [tag for tag in same_commit if tag.version.release[:length] == recorded.version.release]
    return max(finer, key=lambda tag: tag.rank, default=None)


def _is_older(one: Template, other: Template) -> bool:
    if one.commit == other.commit or _is_ancestor(other.commit, one.commit, one.source):
        return False
    if _is_ancestor(one.commit, other.commit, one.source):
        return True
    # Neither comes from the other, as with a branch of maintenance: only their names tell.
    return one.tag is not None and other.tag is not None and Version(one.tag) < Version(other.tag)


def _is_ancestor(one: str, other: str, source: Source) -> bool:
    return (
        git.exit_code(
            "merge-base", "--is-ancestor", one, other, folder=source.repository, good=(0, 1)
        )
        == 0
    )

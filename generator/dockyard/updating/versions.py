"""Which version of its template a service has, and which it should get.

Knows a template's tags and history; knows nothing of files.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import Version

from dockyard.errors import DockyardError
from dockyard.programs import git
from dockyard.rendering.source import Source, is_remote, locate
from dockyard.rendering.template import (
    Tag,
    Template,
    newest_first,
    resolve,
    template_at,
    version_tags,
)
from dockyard.service import Service


class VersionLost(DockyardError):
    """What the service records does not tell which version rendered it.

    `hinted` gives the same error with the version that a search found nearest.
    """

    def __init__(self, version: str, why: str, file: str, nearest: str = "") -> None:
        self._said = version, why, file
        mend = (
            f"Nearest to the service is {nearest}: write that version as _commit into {file}, "
            "and commit it."
            if nearest
            else f"Write the version that rendered it as _commit into {file}, and commit it."
        )
        super().__init__(f"{why}. {mend}")

    def hinted(self, nearest: str) -> "VersionLost":
        """The same error, whose sentence names the version that is `nearest` to the service."""
        return type(self)(*self._said, nearest)


class CommitGone(VersionLost):
    """The template's repository does not have the commit that rendered the service."""

    @classmethod
    def of(cls, version: str, source: str, file: str) -> "CommitGone":
        """The error for `version`, recorded in `file`, which `source` does not have."""
        why = (
            f"{source} does not have {version}, which rendered this service: "
            "its history was rewritten, or the tag was deleted"
        )
        return cls(version, why, file)


class FloatingVersion(VersionLost):
    """The recorded version is a branch or a tag that moves."""

    @classmethod
    def of(cls, version: str, what: str, file: str) -> "FloatingVersion":
        """The error for `version`, recorded in `file`; `what` says in which way it moves."""
        why = f"the service records {version}, {what}: nobody can tell what rendered the service"
        return cls(version, why, file)


class Downgrade(DockyardError):
    """The wanted version is older than the service's."""

    def __init__(self, wanted: str, recorded: str) -> None:
        super().__init__(
            f"{wanted} is older than {recorded}, which the service has: updates go forward only. "
            "To go back, revert the commit of the update."
        )


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
    address, named = address_of(service)
    return replace(locate(address, named), recorded=service.recorded.source)


def address_of(service: Service) -> tuple[str, str]:
    """Where the service's template is, and where that is named.

    A relative folder counts from the service, never from the working directory.
    """
    recorded = service.recorded.source
    beside = service.root / Path(recorded).expanduser()
    address = str(beside) if beside.is_dir() or not is_remote(recorded) else recorded
    return address, f"_src_path of {service.recorded.file}"


def recorded_template(
    service: Service, source: Source, tags: tuple[Tag, ...] | None = None
) -> Template:
    """The template at the version that `service` records.

    If its tag has moved since, it is still the commit that rendered the service. Raises CommitGone,
    FloatingVersion and NotATemplate.
    """
    version = service.recorded.version
    commit = resolve(source, version)
    told = _rendered_by(service, commit) if commit is not None else None
    if told is not None and told != commit and resolve(source, told):
        commit = told
    if tags is None:
        tags = version_tags(source)
    if commit is None:
        raise CommitGone.of(version, source.recorded, service.recorded.file)
    what = _why_floating(source, version, commit, tags)
    if what is not None:
        raise FloatingVersion.of(version, what, service.recorded.file)
    return template_at(source, commit, tags)


def _rendered_by(service: Service, now: str) -> str | None:
    """The template's commit that rendered the service, by the message of Dockyard's commit.

    `now` is the commit of the recorded version today. None if a person wrote the answers file last.
    """
    version = re.escape(service.recorded.version)
    said = re.compile(rf"^Version: {version} \(([0-9a-f]{{40}})\)$", re.MULTILINE)
    env = git.isolated_environment()
    which = (service.head, "--", service.recorded.file)
    told = git.run("log", "-1", "--format=%H%n%B", *which, folder=service.root, env=env)
    since, _, message = told.partition("\n")
    found = said.search(message)
    if found is None or found[1] == now:
        return found[1] if found else None
    # An update to the tag's new commit leaves the answers file as it is.
    later = ("log", "--format=%B", "--grep=^Version: ", f"{since}..{service.head}", "--", ".")
    newest = said.search(git.run(*later, folder=service.root, env=env))
    return newest[1] if newest else found[1]


def moved(service: Service, way: "Step") -> str:
    """A sentence if the tag that the service records is another commit now; else empty."""
    version, source = service.recorded.version, way.recorded.source
    now = resolve(source, version)
    if now is None or now == way.recorded.commit:
        return ""
    return (
        f"the tag {version} of {source.recorded} has moved since it rendered this service: "
        f"{way.recorded.commit[:12]} counts, not {now[:12]}"
    )


def step(service: Service, source: Source, to: str | None = None) -> Step:
    """From what `service` has to `to`: a tag, branch or commit, by default the newest release.

    A service that is ahead of the newest release stays where it is. Raises what `recorded_template`
    raises, UnknownRef, and Downgrade if `to` is older than what the service has.
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
    """`step`, release by release: one Step for each release between, the wanted version last."""
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
    """How many releases the service lacks, the wanted one included; 0 if it has that one."""
    return 0 if chosen.is_none else max(1, len(missing(chosen)))


def missing(chosen: Step) -> set[str]:
    """The commits of the releases that the service lacks, the wanted one included if it is one."""
    source = chosen.recorded.source
    return {
        tag.commit
        for tag in version_tags(source)
        if not tag.version.is_prerelease
        and tag.commit != chosen.recorded.commit
        and _is_ancestor(chosen.recorded.commit, tag.commit, source)
        and _is_ancestor(tag.commit, chosen.target.commit, source)
    }


def _why_floating(source: Source, version: str, commit: str, tags: tuple[Tag, ...]) -> str | None:
    """In which way `version` becomes another commit now and then; None if it stays."""
    moved = _moved_to(version, commit, tags)
    if moved is not None:
        return f"a tag that moves and now marks {moved.name}"
    if any(tag.name == version for tag in tags):
        return None
    how = ("--symbolic-full-name", "--verify", "--quiet", "--end-of-options")
    ref = git.run("rev-parse", *how, version, folder=source.repository).strip()
    # Empty for an id, and for what `git describe` says.
    return (
        "a branch, which moves"
        if ref == "HEAD" or ref.startswith(("refs/heads/", "refs/remotes/"))
        else None
    )


def _moved_to(version: str, commit: str, tags: tuple[Tag, ...]) -> Tag | None:
    """The release that a moving tag marks now, such as v1.2.0 for v1; None if `version` stays."""
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
    how = ("merge-base", "--is-ancestor", one, other)
    return git.exit_code(*how, folder=source.repository, good=(0, 1)) == 0

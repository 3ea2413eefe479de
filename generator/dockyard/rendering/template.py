"""What a template is at one commit: its version and its questions. Reads git objects only.

Knows nothing of Copier's rendering or of services. A version is never a name that moves: a ref is
resolved here to a commit, and to the most precise release tag on that commit.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from dockyard.errors import DockyardError
from dockyard.programs import git
from dockyard.rendering import questions
from dockyard.rendering.source import NotATemplate, Source, locate

_CONFIG_FILE = re.compile(r"copier\.ya?ml", re.IGNORECASE)
_RELEASES_TO_NAME = 5
_REMEMBERED = 64
"""How many versions of templates, the last ones."""


class UnknownRef(DockyardError):
    """The wanted version is nothing in the template's repository."""

    def __init__(self, option: str, ref: str, source: str, releases: Iterable[str]) -> None:
        known = ", ".join(releases)
        super().__init__(
            f"{option} {ref!r} is no tag, branch or commit of {source}; "
            + (
                f"its newest releases are {known}."
                if known
                else f"it has no releases: leave {option} out for its HEAD."
            )
        )


@dataclass(frozen=True, slots=True)
class Template:
    """A template at one commit."""

    source: Source
    commit: str
    """Full object id."""
    tag: str | None
    """The most precise version tag on the commit, if there is one."""
    questions: tuple[str, ...]
    """What it asks, in order. Computed answers are not questions."""
    answers_file: str
    """Where a service records its answers, relative to the service."""
    config: Mapping[str, Any]
    """The whole of its copier.yml."""

    @property
    def yours(self) -> tuple[str, ...]:
        """Patterns of the paths that a service's team owns: the hidden answer `yours`.

        A fork of the template adds its own, in the hidden answer `our`.
        """
        return tuple(map(str, [*_listed(self._hidden("yours")), *_listed(self.our.get("yours"))]))

    @property
    def our(self) -> Mapping[str, Any]:
        """What an organisation says of itself in its fork: the hidden answer `our`."""
        said = self._hidden("our")
        return said if isinstance(said, dict) else {}

    def _hidden(self, name: str) -> object:
        answer = self.config.get(name)
        return answer.get("default") if isinstance(answer, dict) else None

    @property
    def uncommitted(self) -> int:
        """How many uncommitted changes the source's working tree has now."""
        if not self.source.has_worktree:
            return 0
        return len(git.run("status", "--porcelain", folder=self.source.repository).splitlines())

    @property
    def version(self) -> str:
        """The version for people: the tag, or the start of the commit's id."""
        return self.tag or self.commit[:12]


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of a template that is a version (PEP 440)."""

    name: str
    commit: str
    """Full object id."""
    version: Version

    @property
    def rank(self) -> tuple[Version, int]:
        """Order of age. Of equal versions (v1, v1.0.0) the precise one is higher: v1 moves."""
        return self.version, len(self.version.release)


def open_template(typed: str, ref: str | None = None) -> Template:
    """The template at `typed` (see `source.locate`) as of `ref`.

    Without a ref it is the newest release: a PEP 440 tag that is no prerelease. A source without
    releases gives its default state. Raises UnknownRef, NotATemplate and what `locate` raises.
    """
    return template_at(locate(typed), ref)


def template_at(
    source: Source,
    ref: str | None = None,
    tags: tuple[Tag, ...] | None = None,
    option: str = "--ref",
) -> Template:
    """The template in `source` as of `ref`; see `open_template`.

    `tags` are the source's, if the caller has them. `option` is the one that names `ref`. Raises
    UnknownRef and NotATemplate.
    """
    if tags is None:
        tags = version_tags(source)
    commit = _commit(source, ref, tags, option)
    config = _config(source, commit)
    questions = tuple(name for name, question in config.items() if _is_asked(name, question))
    if "service_name" not in questions:
        mend = f"Name a template of services in {source.named}, or another version of it."
        raise NotATemplate(source.recorded, "its copier.yml does not ask service_name", mend)
    precise = max(
        (tag for tag in tags if tag.commit == commit), key=lambda tag: tag.rank, default=None
    )
    return Template(
        source=source,
        commit=commit,
        tag=precise.name if precise else None,
        questions=questions,
        answers_file=str(config.get("_answers_file", ".copier-answers.yml")),
        config=config,
    )


def recorded_version(template: Template) -> str:
    """What a service records as `_commit`: the precise tag, else what git calls the commit."""
    if template.tag is not None:
        return template.tag
    return git.run(
        "describe", "--tags", "--always", template.commit, folder=template.source.repository
    ).strip()


def version_tags(source: Source) -> tuple[Tag, ...]:
    """Every tag of `source` that is a version, in no order."""
    # Ends with 1 without a tag. A tag of a tag is peeled to its commit, on lines of their own.
    listed = git.output(
        "show-ref", "--tags", "--dereference", folder=source.repository, good=(0, 1)
    )
    commits: dict[str, str] = {}
    for line in os.fsdecode(listed).splitlines():
        oid, _, ref = line.partition(" ")
        commits[ref.removeprefix("refs/tags/").removesuffix("^{}")] = oid
    return tuple(_versions(commits))


def _versions(commits: Mapping[str, str]) -> Iterable[Tag]:
    for name, commit in commits.items():
        try:
            version = Version(name)
        except InvalidVersion:
            continue
        yield Tag(name, commit, version)


def _commit(source: Source, ref: str | None, tags: tuple[Tag, ...], option: str) -> str:
    releases = [tag for tag in newest_first(tags) if not tag.version.is_prerelease]
    if ref is None and releases:
        return releases[0].commit
    if ref is None or ref == "HEAD":
        found = resolve(source, source.head)
        if found is None:
            raise NotATemplate(
                source.recorded, "it has no commit yet", "Commit the template first."
            )
        return found
    # A branch that a clone has not checked out is known by its remote's name only.
    found = resolve(source, ref) or resolve(source, f"refs/remotes/origin/{ref}")
    if found is None:
        raise UnknownRef(
            option, ref, source.recorded, [tag.name for tag in releases[:_RELEASES_TO_NAME]]
        )
    return found


def newest_first(tags: Iterable[Tag]) -> list[Tag]:
    """`tags` by version, the newest first."""
    return sorted(tags, key=lambda tag: tag.rank, reverse=True)


def newest_commits(source: Source, *, releases: int, commits: int) -> list[str]:
    """The newest releases of `source`, or without any its newest commits; the newest first."""
    tags = newest_first(version_tags(source))[:releases]
    if tags:
        return list(dict.fromkeys(tag.commit for tag in tags))
    how = ("rev-list", "--first-parent", f"--max-count={commits}", source.head)
    return git.run(*how, folder=source.repository).split()


def resolve(source: Source, ref: str) -> str | None:
    """The full id of the commit that `ref` names in `source`, None if it names none."""
    try:
        found = git.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{ref}^{{commit}}",
            folder=source.repository,
        )
    except git.GitFailed:
        return None
    return found.strip()


@lru_cache(maxsize=_REMEMBERED)
def _config(source: Source, commit: str) -> Mapping[str, Any]:
    """What copier.yml says. Nearly all services of a fleet ask for the same two commits."""
    listed = git.run("ls-tree", "-r", "-z", "--name-only", commit, folder=source.repository)
    names = listed.split("\0")[:-1]
    found = [name for name in names if _CONFIG_FILE.fullmatch(name)]
    if len(found) != 1:
        why = f"it has {' and '.join(found) or 'no copier.yml'} at {commit[:12]}"
        raise NotATemplate(
            source.recorded, why, f"Name a template in {source.named}, or another version of it."
        )

    def text(name: str) -> str:
        return git.run("show", f"{commit}:{name}", folder=source.repository)

    try:
        return questions.read(found[0], names, text)
    except yaml.YAMLError as error:
        raise NotATemplate(
            source.recorded, f"{found[0]} cannot be read: {error}", "Mend it and its includes."
        ) from error
    except questions.OtherThanQuestionsError as error:
        why = f"{found[0]} holds something else than questions and settings"
        raise NotATemplate(source.recorded, why, "Mend it, or name another version.") from error


def _is_asked(name: str, question: object) -> bool:
    return not name.startswith("_") and not (
        isinstance(question, dict) and question.get("when") is False
    )


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

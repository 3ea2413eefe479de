"""What every forge can be asked for: pull requests of one repository, and their checks."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What a pull request says, and who gets to see it."""

    branch: str
    into: str
    title: str
    body: str
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    """Names as the forge has them; on GitHub and Gitea `organisation/team` is a team."""


@dataclass(frozen=True, slots=True)
class Open:
    """A pull request that is open."""

    number: str
    url: str
    merges_itself: bool
    """Whether the forge merges it once its checks pass."""
    raw: dict[str, Any]
    """What the forge says of it."""


class Checks(StrEnum):
    """What a forge's pipelines say of a commit."""

    PASSED = "passed"
    FAILED = "failed"
    RUNNING = "running"
    ABSENT = "absent"
    """No pipeline said anything."""


class NotOfferedError(Exception):
    """The forge has no such thing; the message says what."""


class Api(Protocol):
    """One repository at a forge. Every method raises RefusedError."""

    def find(self, branch: str) -> Open | None:
        """The open pull request of the repository's own `branch`, not of a fork's."""

    def create(self, wanted: PullRequest) -> Open:
        """Open it, without labels and reviewers."""

    def edit(self, which: Open, wanted: PullRequest) -> None:
        """Give it the title and the body of `wanted`."""

    def label(self, which: Open, labels: tuple[str, ...]) -> None:
        """Add `labels`. Raises NotOfferedError."""

    def ask(self, which: Open, reviewers: tuple[str, ...]) -> None:
        """Ask `reviewers` for a review. Raises NotOfferedError."""

    def merge_itself(self, which: Open) -> None:
        """Let the forge merge it once its checks pass. Raises NotOfferedError."""

    def checks(self, commit: str) -> Checks:
        """What the pipelines say of `commit`."""


def summed(states: list[Checks]) -> Checks:
    """One verdict of many: a failed one decides, then one that still runs."""
    for decisive in (Checks.FAILED, Checks.RUNNING, Checks.PASSED):
        if decisive in states:
            return decisive
    return Checks.ABSENT

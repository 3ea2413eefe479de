"""The branches on which updates wait to be merged. Knows git and versions of the template; touches no person's work."""

from dockyard import git
from dockyard.apply import is_dockyards
from dockyard.lifecycle import Updated
from dockyard.service import Service
from dockyard.template import Template, resolve

_HEADS = "refs/heads/"


def waiting(service: Service) -> tuple[str, ...]:
    """Updates of `service` on branches that are not merged yet."""
    refs = f"{_HEADS}{_room(service)}"
    told = git.run("for-each-ref", "--format=%(refname:lstrip=2)", "--no-merged=HEAD", refs, folder=service.root)
    return tuple(told.splitlines())


def supersede(service: Service, done: Updated) -> tuple[str, ...]:
    """Delete the branches of updates to versions before that of `done`, and say which they were.

    A branch that a person has a hand in, or that is checked out, stays.
    """
    target = done.plans[-1].step.target
    format_ = "--format=%(objectname) %(refname:lstrip=2)%00%(worktreepath)"
    told = git.run("for-each-ref", format_, "--no-merged=HEAD", f"{_HEADS}{_room(service)}", folder=service.root)
    gone = []
    for line in told.splitlines():
        named, _, checked_out = line.partition("\0")
        tip, _, branch = named.partition(" ")
        if not checked_out and is_before(service, branch, target) and is_dockyards(service, tip):
            git.run("update-ref", "-d", f"{_HEADS}{branch}", tip, folder=service.root)
            gone.append(branch)
    return tuple(gone)


def is_before(service: Service, branch: str, target: Template) -> bool:
    """Whether `branch` is the one of an update of `service` to a version before `target`."""
    version = branch.removeprefix(_room(service))
    commit = resolve(target.source, version)
    return (
        commit not in {None, target.commit}
        and git.exit_code(
            *("merge-base", "--is-ancestor", str(commit), target.commit),
            folder=target.source.repository,
            good=(0, 1),
        )
        == 0
    )


def _room(service: Service) -> str:
    return f"dockyard/{service.prefix}"

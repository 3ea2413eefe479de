"""The branches on which updates wait to be merged. Knows git and versions of the template; touches no person's work."""

from dockyard.commands import Updated
from dockyard.programs import git
from dockyard.rendering.template import Template, resolve
from dockyard.service import Service
from dockyard.updating.apply import is_dockyards, room_of

_HEADS = "refs/heads/"


def waiting(service: Service) -> tuple[str, ...]:
    """Updates of `service` on branches that are not merged yet."""
    refs = f"{_HEADS}{room_of(service)}"
    told = git.run(
        "for-each-ref",
        "--format=%(refname:lstrip=2)",
        "--no-merged=HEAD",
        refs,
        folder=service.root,
    )
    return tuple(told.splitlines())


def branch_to(service: Service, target: Template) -> str:
    """The branch that an update of `service` to `target` goes to."""
    return f"{room_of(service)}{target.version}"


def waits(service: Service, target: Template, *, pushed: bool) -> bool:
    """Whether the update of `service`, as it is now, to `target` is on its branch; with `pushed`, in the remote too."""
    branch = branch_to(service, target)
    refs = (f"{_HEADS}{branch}", f"refs/remotes/origin/{branch}")
    told = git.run(
        *("for-each-ref", "--format=%(refname) %(objectname)", f"--contains={service.head}", *refs),
        folder=service.root,
    )
    tips = dict(line.split(" ") for line in told.splitlines())
    return refs[0] in tips and (not pushed or tips.get(refs[1]) == tips[refs[0]])


def supersede(service: Service, done: Updated) -> tuple[str, ...]:
    """Delete the branches of updates to versions before that of `done`, and say which they were.

    A branch that a person has a hand in, or that is checked out, stays.
    """
    target = done.plans[-1].step.target
    format_ = "--format=%(objectname) %(refname:lstrip=2)%00%(worktreepath)"
    told = git.run(
        "for-each-ref",
        format_,
        "--no-merged=HEAD",
        f"{_HEADS}{room_of(service)}",
        folder=service.root,
    )
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
    version = branch.removeprefix(room_of(service))
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

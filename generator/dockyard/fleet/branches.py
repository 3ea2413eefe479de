"""The branches on which updates wait to be merged.

Knows git and versions of the template; touches no person's work.
"""

from dockyard.commands import Updated
from dockyard.programs import git
from dockyard.rendering.template import Template, resolve
from dockyard.service import Service
from dockyard.updating.apply import branch_for, branches_of, is_dockyards

_HEADS = "refs/heads/"


def waiting(service: Service) -> tuple[str, ...]:
    """The branches with updates of `service` that are not merged yet."""
    refs = f"{_HEADS}{branches_of(service)}"
    told = ("for-each-ref", "--format=%(refname:lstrip=2)", f"--no-merged={service.head}", refs)
    return tuple(git.run(*told, folder=service.root).splitlines())


def waits(service: Service, target: Template, *, pushed: bool) -> bool:
    """Whether the update of `service`, as it is now, to `target` is on its branch.

    With `pushed` the remote must have it too.
    """
    branch = branch_for(service, target)
    refs = (f"{_HEADS}{branch}", f"refs/remotes/origin/{branch}")
    told = git.run(
        *("for-each-ref", "--format=%(refname) %(objectname)", f"--contains={service.head}", *refs),
        folder=service.root,
    )
    tips = dict(line.split(" ") for line in told.splitlines())
    return refs[0] in tips and (not pushed or tips.get(refs[1]) == tips[refs[0]])


def supersede(service: Service, done: Updated) -> tuple[str, ...]:
    """Delete the branches of updates to versions earlier than `done`'s, and name them.

    A branch stays if a person works on it, or if it is checked out.
    """
    target = done.plans[-1].step.target
    refs = f"{_HEADS}{branches_of(service)}"
    format_ = "--format=%(objectname) %(refname:lstrip=2)%00%(worktreepath)"
    told = git.run(
        "for-each-ref", format_, f"--no-merged={service.head}", refs, folder=service.root
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
    """Whether `branch` has an update of `service` to a version before `target`."""
    version = branch.removeprefix(branches_of(service))
    commit = resolve(target.source, version)
    if commit is None or commit == target.commit:
        return False
    how = ("merge-base", "--is-ancestor", commit, target.commit)
    return git.exit_code(*how, folder=target.source.repository, good=(0, 1)) == 0

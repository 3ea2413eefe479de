"""Makes a plan real: as a commit on a branch of its own, or in the working tree.

Knows git; knows nothing of how a plan came to be.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dockyard.errors import DockyardError
from dockyard.programs import git
from dockyard.programs.tree import Entry
from dockyard.rendering.template import Template
from dockyard.service import Service
from dockyard.updating import objects, worktree
from dockyard.updating.changes import changes
from dockyard.updating.plan import Plan
from dockyard.updating.scratch_repository import ScratchRepository

_TRAILER = "Dockyard-Tree"
# For one part of a name, see git-check-ref-format. The percent sign is here so that no two folders
# share a name.
_NOT_IN_REFS = re.compile(r"[\x00-\x20\x7f~^:?*\[\\%]|^\.|\.(?=\.)|\.\Z|\.(?=lock\Z)|@(?=\{)")
_NO_REF = "0" * 40


class BranchTaken(DockyardError):
    """The update's branch is there, and it is not Dockyard's work alone."""

    def __init__(self, branch: str, why: str) -> None:
        super().__init__(
            f"the branch {branch} {why}: merge it, rename it or delete it "
            f"with `git branch -D {branch}`, and run this again."
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """What an update on a branch left."""

    branch: str
    commit: str
    is_new: bool
    """False if the branch had this very update already."""
    fallback_identity: bool
    """Whether git knew no author, so that the commits bear a neutral one."""


def branch_for(service: Service, target: Template) -> str:
    """The branch for an update of `service` to `target`."""
    return f"{branches_of(service)}{target.version}"


def branches_of(service: Service) -> str:
    """How the names of all branches of updates of `service` begin.

    Services in one repository have different beginnings. What git does not allow in a branch's
    name, as a space in the folder's, becomes percent and two digits.
    """
    return f"dockyard/{'/'.join(map(_spelt, service.prefix.split('/')))}"


def _spelt(folder: str) -> str:
    return _NOT_IN_REFS.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found[0])), folder
    )


def commit(scratch: ScratchRepository, plans: Sequence[Plan]) -> Committed:
    """Put `plans` on their branch, a commit each. Each plan continues the result of the one before.

    A branch moves only if it holds nothing but an earlier update by Dockyard. The plans must have
    no conflicts. Raises BranchTaken and GitFailed; then nothing is changed.
    """
    service, branch = plans[0].service, branch_for(plans[0].service, plans[-1].step.target)
    before = _tip(service, branch)
    author = git.identity(service.root)
    env = git.isolated_environment() | author.env
    trees = [_whole(scratch, plan) for plan in plans]
    if before is not None and _trees_since(service, before) == trees:
        return Committed(branch, before, is_new=False, fallback_identity=False)
    objects.bring(scratch, service, trees)
    tip = service.head
    for plan, tree in zip(plans, trees, strict=True):
        text = os.fsencode(_message(plan, tree))
        parent = ("commit-tree", "-p", tip, tree)
        tip = git.run(*parent, folder=service.root, env=env, stdin=text).strip()
    try:
        git.run(
            *("update-ref", "--no-deref", "--create-reflog", "-m", "dockyard update"),
            *(f"refs/heads/{branch}", tip, before or _NO_REF),
            folder=service.root,
            env=env,
        )
    except git.GitFailed as error:
        raise BranchTaken(branch, f"cannot be written ({error.reason})") from error
    return Committed(branch, tip, is_new=True, fallback_identity=author.is_fallback)


def in_place(scratch: ScratchRepository, plan: Plan) -> None:
    """Put the result of `plan` into the working tree, staged; conflicts as git leaves them.

    All or nothing. Raises what `worktree.write` raises.
    """
    service, merge = plan.service, plan.merge
    objects.bring(scratch, service, [merge.tree, *(stage.entry.oid for stage in merge.stages)])
    worktree.write(service, changes(service, merge.before, merge.after), merge.stages)


def _whole(scratch: ScratchRepository, plan: Plan) -> str:
    """The repository's tree, with the plan's tree in the service's place."""
    prefix = plan.service.prefix
    if not prefix:
        return plan.merge.tree
    others = scratch.entries(plan.service.head)
    files: dict[str, Entry] = {
        path: entry for path, entry in others.items() if not path.startswith(prefix)
    }
    files |= {f"{prefix}{path}": entry for path, entry in plan.merge.after.items()}
    return scratch.write(files)


def _message(plan: Plan, tree: str) -> str:
    step = plan.step
    of = f" of {plan.service.name}" if plan.service.prefix else ""
    return (
        f"Update{of} from template {step.recorded.version} to {step.target.version}\n\n"
        f"Template: {step.target.source.recorded}\n"
        f"Version: {step.target.version} ({step.target.commit})\n\n"
        f"{_TRAILER}: {tree}\n"
    )


def _tip(service: Service, branch: str) -> str | None:
    """The commit of the branch, None without one. Raises BranchTaken if it is a person's."""
    ref = f"refs/heads/{branch}"
    parents = {str(parent) for parent in PurePosixPath(ref).parents if len(parent.parts) > 2}
    format_ = "--format=%(refname)%00%(objectname)%00%(symref)%00%(worktreepath)"
    # A pattern lists what is below it too: git has no branch below another one.
    listed = git.run("for-each-ref", format_, ref, *sorted(parents), folder=service.root)
    tip = None
    for found, oid, symbolic, checked_out in (line.split("\0") for line in listed.splitlines()):
        if found in parents or found.startswith(f"{ref}/"):
            raise BranchTaken(found.removeprefix("refs/heads/"), f"leaves no place for {branch}")
        if found == ref and symbolic:
            other = symbolic.removeprefix("refs/heads/")
            raise BranchTaken(branch, f"is only another name of {other}")
        if found == ref and checked_out:
            raise BranchTaken(branch, f"is checked out in {checked_out}")
        tip = oid if found == ref else tip
    if tip is not None and not is_dockyards(service, tip):
        raise BranchTaken(branch, "has commits that are not an update by Dockyard")
    return tip


def is_dockyards(service: Service, tip: str) -> bool:
    """Whether all commits that `tip` has beyond the service are updates by Dockyard."""
    return None not in _trees_since(service, tip)


def _trees_since(service: Service, tip: str) -> list[str | None]:
    """The trees of the commits between the service and `tip`, oldest first; None for a person's."""
    # The user's git may read trailers and show logs in another way.
    config = ("-c", "trailer.separators=:", "-c", "log.showSignature=false")
    format_ = f"--format=%T %(trailers:key={_TRAILER},valueonly,separator=%x2C)"
    since = f"{service.head}..{tip}"
    told = git.run(*config, "log", "--reverse", format_, since, folder=service.root)
    pairs = [line.split(" ", 1) for line in told.splitlines()]
    return [tree if tree == said.strip() else None for tree, said in pairs]

"""Makes a plan real: as a commit on a branch of its own, or in the working tree.

Knows git; knows nothing of how a plan came to be.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.hindrances import BranchTaken
from dockyard.programs import git
from dockyard.programs.tree import Entry
from dockyard.service import Service
from dockyard.updating import objects, worktree
from dockyard.updating.plan import Plan
from dockyard.updating.scratch_repository import Bench

_TRAILER = "Dockyard-Tree"
# Of one part of a name, see git-check-ref-format; the percent sign, so that no two folders have one name.
_NOT_IN_REFS = re.compile(r"[\x00-\x20\x7f~^:?*\[\\%]|^\.|\.(?=\.)|\.\Z|\.(?=lock\Z)|@(?=\{)")
_NO_REF = "0" * 40


@dataclass(frozen=True, slots=True)
class Committed:
    """What an update on a branch left."""

    branch: str
    commit: str
    is_new: bool
    """False when the branch had this very update already."""
    fallback_identity: bool
    """Whether git knew no author, so that the commits bear a neutral one."""


def branch_of(plan: Plan) -> str:
    """The branch that an update goes to; of services in one repository each has its own."""
    return f"{room_of(plan.service)}{plan.step.target.version}"


def room_of(service: Service) -> str:
    """What the names of all branches of updates of `service` begin with.

    What git does not allow in a name of a branch, as the space in a folder's, comes as percent and two digits.
    """
    return f"dockyard/{'/'.join(map(_spelt, service.prefix.split('/')))}"


def _spelt(folder: str) -> str:
    return _NOT_IN_REFS.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found[0])), folder
    )


def commit(bench: Bench, plans: Sequence[Plan]) -> Committed:
    """Put `plans`, each made for the result of the one before, on their branch, a commit each.

    A branch that holds nothing but an earlier update by Dockyard moves; no other does. Nothing is changed when this
    raises: BranchTaken, GitFailed. The plans must have no conflicts.
    """
    service, branch = plans[0].service, branch_of(plans[-1])
    before = _tip(service, branch)
    env = git.isolated_environment()
    known = git.knows_its_user(service.root, env)
    if not known:
        env |= git.NEUTRAL_IDENTITY
    trees = [_whole(bench, plan) for plan in plans]
    if before is not None and _trees_since(service, before) == trees:
        return Committed(branch, before, is_new=False, fallback_identity=False)
    objects.bring(bench, service, trees)
    tip = service.head
    for plan, tree in zip(plans, trees, strict=True):
        text = os.fsencode(_message(plan, tree))
        tip = git.run(
            "commit-tree", "-p", tip, tree, folder=service.root, env=env, stdin=text
        ).strip()
    try:
        git.run(
            *("update-ref", "--create-reflog", "-m", "dockyard update"),
            *(f"refs/heads/{branch}", tip, before or _NO_REF),
            folder=service.root,
            env=env,
        )
    except git.GitFailed as error:
        raise BranchTaken(branch, f"cannot be written ({error.reason})") from error
    return Committed(branch, tip, is_new=True, fallback_identity=not known)


def in_place(bench: Bench, plan: Plan) -> None:
    """Put the result of `plan` into the working tree, staged; conflicts are left as git leaves those of a merge.

    All or nothing, see `worktree.write`, whose errors it raises.
    """
    service, merge = plan.service, plan.merge
    objects.bring(bench, service, [merge.tree, *(stage.entry.oid for stage in merge.stages)])
    worktree.write(service, worktree.changes(service, merge.before, merge.after), merge.stages)


def _whole(bench: Bench, plan: Plan) -> str:
    """The repository's tree with the plan's in the place of the service's."""
    prefix = plan.service.prefix
    if not prefix:
        return plan.merge.tree
    others = bench.entries(plan.service.head)
    files: dict[str, Entry] = {
        path: entry for path, entry in others.items() if not path.startswith(prefix)
    }
    files |= {f"{prefix}{path}": entry for path, entry in plan.merge.after.items()}
    return bench.write(files)


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
    """The commit that the branch `branch` is at, None without one. Raises BranchTaken when people have a hand in it."""
    ref = f"refs/heads/{branch}"
    found = git.run(
        "for-each-ref", "--format=%(objectname) %(worktreepath)", ref, folder=service.root
    ).strip()
    if not found:
        return None
    tip, _, checked_out = found.partition(" ")
    if checked_out:
        raise BranchTaken(branch, f"is checked out in {checked_out}")
    if not is_dockyards(service, tip):
        raise BranchTaken(branch, "has commits that are not an update by Dockyard")
    return tip


def is_dockyards(service: Service, tip: str) -> bool:
    """Whether the commits that `tip` has beyond the service are updates by Dockyard, and none is a person's."""
    return None not in _trees_since(service, tip)


def _trees_since(service: Service, tip: str) -> list[str | None]:
    """The trees of the commits that `tip` has and the service has not, oldest first; None for one of a person."""
    # Whatever the user takes for trailers and wants to see in logs.
    config = ("-c", "trailer.separators=:", "-c", "log.showSignature=false")
    told = git.run(
        *(
            *config,
            "log",
            "--reverse",
            f"--format=%T %(trailers:key={_TRAILER},valueonly,separator=%x2C)",
        ),
        f"{service.head}..{tip}",
        folder=service.root,
    )
    pairs = [line.split(" ", 1) for line in told.splitlines()]
    return [tree if tree == said.strip() else None for tree, said in pairs]

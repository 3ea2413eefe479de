"""Results as JSON, for programs. The schema is docs/reference/records.schema.json.

Under one schema number no field is renamed, retyped or removed; new fields may come.
"""

from collections.abc import Mapping
from typing import Any

from dockyard.adopting.adopt import Adopted
from dockyard.commands import Checked, Difference, Restored, Updated
from dockyard.programs.tree import shown
from dockyard.rendering.template import Template
from dockyard.service import Service
from dockyard.updating.merge import File, State
from dockyard.updating.plan import Plan, Question

SCHEMA = 1
Record = Mapping[str, Any]


def updated(result: Updated, *, exit_code: int) -> Record:
    """The record of `dockyard update --json`."""
    committed = result.committed
    return {
        **_head("update", result.service, result.warnings),
        "exit_code": exit_code,
        "outcome": result.outcome,
        "tree": result.tree,
        "branch": committed.branch if committed else None,
        "commit": committed.commit if committed else None,
        "conflicts": result.conflicts,
        "steps": [_step(plan) for plan in result.plans],
    }


def checked(result: Checked, *, exit_code: int) -> Record:
    """The record of `dockyard check --json`."""
    return {
        **_head("check", result.service, result.warnings),
        "exit_code": exit_code,
        "recorded": _version(result.step.recorded),
        "newest": _version(result.step.target),
        "behind": result.behind,
        "drifted": [{"path": shown(file.path), "how": file.how} for file in result.drift.files],
    }


def difference(result: Difference, *, exit_code: int) -> Record:
    """The record of `dockyard diff --json`."""
    return {
        **_head("diff", result.service, result.warnings),
        "exit_code": exit_code,
        "patch": result.patch.decode("utf-8", "backslashreplace"),
    }


def restored(result: Restored) -> Record:
    """The record of `dockyard restore --json`."""
    return {
        **_head("restore", result.service, result.warnings),
        "restored": [shown(path) for path in result.paths],
    }


def adopted(result: Adopted) -> Record:
    """The record of `dockyard adopt --json`."""
    return {
        **_head("adopt", result.service, ()),
        "found": _version(result.template),
        "answers": dict(result.answers),
        "written": result.is_written,
        "candidates": result.candidates,
        "managed_files": len(result.managed),
        "equal_files": len(result.managed) - len(result.drifted),
        "share_of_lines": round(result.share, 4),
        "drifted": [
            {"path": shown(each.path), "share_of_lines": round(each.share, 4)}
            for each in result.drifted
        ],
    }


def file(one: File) -> Record:
    """What becomes of one path."""
    return {
        "path": shown(one.path),
        "state": one.state,
        "conflict": one.conflict,
        "message": shown(one.message),
    }


def question(one: Question) -> Record:
    """A question that is new to a service."""
    return {
        "name": one.name,
        "answer": one.answer,
        "given": one.is_given,
        "carried": list(one.carried),
        "help": one.help,
    }


def _head(command: str, service: Service, warnings: tuple[str, ...]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "command": command,
        "service": service.name,
        "path": shown(str(service.root)),
        "template": service.recorded.source,
        "warnings": list(warnings),
    }


def _step(plan: Plan) -> Record:
    return {
        "recorded": _version(plan.step.recorded),
        "target": _version(plan.step.target),
        "tree": plan.merge.tree,
        "files": [
            file(one) for one in plan.merge.files if one.state not in {State.CLEAN, State.YOURS}
        ],
        "new_questions": [question(each) for each in plan.new_questions],
        "retired": list(plan.retired),
        "notes": plan.notes,
    }


def _version(template: Template) -> Record:
    return {"version": template.version, "commit": template.commit}

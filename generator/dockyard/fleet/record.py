"""What the commands of a fleet print as JSON, for programs.

The schema is docs/reference/records.schema.json.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from dockyard.fleet.patches import Patch
from dockyard.fleet.roster import Roster
from dockyard.fleet.status import Row
from dockyard.programs.tree import shown
from dockyard.record import SCHEMA, Record, question


def rows(command: str, roster: Roster, found: Iterable[Row], *, exit_code: int) -> Record:
    """The record of `dockyard fleet status|check|update --json`."""
    return {**_head(command, roster, exit_code), "services": [row(one) for one in found]}


def patches(roster: Roster, found: Iterable[Patch], *, exit_code: int) -> Record:
    """The record of `dockyard fleet diff --json`."""
    return {**_head("diff", roster, exit_code), "services": [patch(one) for one in found]}


def row(one: Row) -> dict[str, Any]:
    """One service."""
    return {
        "name": shown(one.name),
        "place": shown(one.place),
        "groups": list(one.groups),
        "state": one.state,
        "template": one.template,
        "recorded": one.recorded,
        "target": one.target,
        "behind": one.behind,
        "outdated_since": _iso(one.lacking_since),
        "drift": [
            {"path": path, "how": how, "since": _iso(one.drift_since.get(path))}
            for path, how in one.drift
        ],
        "conflicts": [{"path": path, "conflict": kind} for path, kind in one.conflicts],
        "branches": list(one.branches),
        "url": one.url,
        "message": shown(one.message),
        "new_questions": [question(each) for each in one.new_questions],
        "breaches": [shown(each) for each in one.breaches],
        "waived": [shown(each) for each in one.waived],
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def patch(one: Patch) -> dict[str, Any]:
    """The patch of one service."""
    return {
        "name": shown(one.name),
        "patch": one.text.decode("utf-8", "backslashreplace"),
        "message": shown(one.problem),
    }


def _head(command: str, roster: Roster, exit_code: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "command": f"fleet {command}",
        "fleet": shown(str(roster.origin)),
        "left_out": [{"path": shown(str(each.path)), "why": each.why} for each in roster.left_out],
        "exit_code": exit_code,
    }

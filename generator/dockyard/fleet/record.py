"""A fleet's rows as JSON, for programs: the schema of docs/reference/json.md, under the number of `dockyard.record`."""

from collections.abc import Iterable
from typing import Any

from dockyard.fleet.roster import Roster
from dockyard.fleet.stand import Row
from dockyard.record import SCHEMA, Record
from dockyard.tree import shown


def rows(command: str, roster: Roster, found: Iterable[Row], *, exit_code: int) -> Record:
    """The record of `dockyard fleet status|check|update --json`."""
    return {
        "schema": SCHEMA,
        "command": f"fleet {command}",
        "fleet": shown(str(roster.origin)),
        "exit_code": exit_code,
        "services": [row(one) for one in found],
    }


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
        "drift": [{"path": path, "how": how} for path, how in one.drift],
        "conflicts": [{"path": path, "conflict": kind} for path, kind in one.conflicts],
        "branches": list(one.branches),
        "url": one.url,
        "message": shown(one.message),
    }

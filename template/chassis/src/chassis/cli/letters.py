"""How a dead letter is shown: as JSON, as a row, in full."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from chassis.cli import output
from chassis.telemetry.text import harmless_line

if TYPE_CHECKING:
    from chassis.bus import DeadLetter

COLUMNS = ("id", "reason", "type", "attempts", "last_failure", "message")
"""The parts of a summary that a row shows."""
_SHORT_ID = 12
_SHORT_TIME = len("2026-01-02T03:04:05")


def summary(letter: "DeadLetter") -> dict[str, object]:
    """What is known of it, without headers and body."""
    failure = letter.failure
    return {
        "id": letter.id,
        "type": letter.type,
        "reason": failure.reason,
        "error": failure.error,
        "message": failure.message,
        "handler": failure.handler,
        "attempts": failure.attempts,
        "version": failure.version,
        "first_failure": failure.first_failure,
        "last_failure": failure.last_failure,
        "bytes": len(letter.body),
    }


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """A row for each summary, and their number. Short on a terminal, whole in a pipe."""
    shown = _shortened if output.in_a_terminal() else _whole
    headings = [name.replace("_", " ") for name in COLUMNS]
    cells = [shown({name: str(row[name]) for name in COLUMNS}) for row in rows]
    output.table(cells, headings, in_one_piece=("id", "reason", "last failure"))
    output.say(f"{len(rows)} dead letter{'' if len(rows) == 1 else 's'}")


def _whole(row: Mapping[str, str]) -> Sequence[str]:
    return list(row.values())


def _shortened(row: Mapping[str, str]) -> Sequence[str]:
    short = {
        "id": row["id"][:_SHORT_ID],
        "last_failure": row["last_failure"][:_SHORT_TIME],
        "message": row["message"].partition("\n")[0],
    }
    return list((dict(row) | short).values())


def described(letter: "DeadLetter") -> str:
    """Why it died, its headers, and its body: decoded where a contract allows it, else raw."""
    from chassis.contracts import event_types

    lines = [f"{name:<14}{_indented(value)}" for name, value in summary(letter).items()]
    if letter.failure.stack:
        lines += ["", letter.failure.stack.rstrip()]
    headers = letter.headers.items()
    lines += ["", *(f"{harmless_line(name)}: {_text(value)}" for name, value in headers), ""]
    try:
        lines.append(event_types.to_json(letter.type, letter.body, json=letter.json))
    except event_types.ContractError:
        lines.append(f"{letter.body!r}")
    return "\n".join(lines)


def _indented(value: object) -> str:
    """A message of several lines cannot pretend to be the next field."""
    return str(value).replace("\n", "\n" + " " * 14)


def _text(value: object) -> str:
    return harmless_line(value if isinstance(value, str) else repr(value))

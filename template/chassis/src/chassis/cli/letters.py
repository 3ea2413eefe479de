"""How a dead letter is shown: as JSON, as a row, in full."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from chassis.bus import DeadLetter
from chassis.contracts import event_types

ID_SHOWN = 12


def summary(letter: DeadLetter) -> dict[str, object]:
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
    """A row for each of the summaries, and how many there are."""
    table = Table(box=None, pad_edge=False)
    for column in ("id", "reason", "type", "attempts", "last failure", "message"):
        table.add_column(column, no_wrap=column in {"id", "reason", "last failure"})
    for row in rows:
        message = str(row["message"]).partition("\n")[0]
        id_, last_failure = str(row["id"])[:ID_SHOWN], str(row["last_failure"])[:19]
        table.add_row(
            id_, str(row["reason"]), str(row["type"]), str(row["attempts"]), last_failure, message
        )
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(table)
    console.print(f"{len(rows)} dead letter{'' if len(rows) == 1 else 's'}")


def described(letter: DeadLetter) -> str:
    """Why it died, its headers, and its body: decoded where a contract allows it, else raw."""
    lines = [f"{name:<14}{value}" for name, value in summary(letter).items()]
    if letter.failure.stack:
        lines += ["", letter.failure.stack.rstrip()]
    lines += ["", *(f"{name}: {_text(value)}" for name, value in letter.headers.items()), ""]
    try:
        lines.append(event_types.to_json(letter.type, letter.body))
    except event_types.ContractError:
        lines.append(f"{letter.body!r}")
    return "\n".join(lines)


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)

"""`dlq export`: dead letters to a file, all of them or no file at all.

Knows files, and how an entry becomes a line.
"""

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

from chassis.cli import letters
from chassis.cli.session import UsageError

if TYPE_CHECKING:
    from chassis.bus import DeadLetter


@contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[Callable[[str], object]]:
    """Gives a function that writes a line. `path` gets all lines at the end or none.

    Only the owner may read the file: events can hold personal data. Raises UsageError if `path`
    exists without `force`, is no file, or cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(
                f"{path} is there and is no file: name another one, or - for standard output"
            )
        if path.exists() and not force:
            raise UsageError(
                f"{path} is there already: name another file, or overwrite it with --force"
            )
        descriptor, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                yield lambda text: file.write(f"{text}\n")
                file.flush()
                os.fsync(file.fileno())  # what was exported may be discarded next
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        if (
            error.errno is None
        ):  # BusUnavailable is one too; only those of the operating system have a number
            raise
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def line(letter: "DeadLetter") -> str:
    """All of `letter` as JSON: `body` in base64, `event` decoded, or null if that fails."""
    from chassis.contracts import event_types

    try:
        event = json.loads(event_types.to_json(letter.type, letter.body, json=letter.json))
    except event_types.ContractError:
        event = None
    entry = letters.summary(letter) | {
        "service": letter.failure.service,
        "stack": letter.failure.stack,
        "headers": dict(letter.headers),
        "body": base64.b64encode(letter.body).decode(),
        "event": event,
    }
    return json.dumps(entry, default=_as_text)


def _as_text(value: object) -> str:
    """A value that AMQP knows and JSON does not: bytes in base64, times and decimals as text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes | bytearray) else str(value)

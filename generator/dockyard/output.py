"""What commands print, and what happens if that fails. Imports what prints only when it prints.

Output comes after the deed and cannot fail it: an update that is written is not "refused" because
nobody reads the report, or because a terminal lacks an arrow.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path


def prepare() -> None:
    """Let any text be printed in any encoding, also if a stream is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open to the end
            setattr(sys, name, nowhere)
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def after_the_deed() -> Iterator[None]:
    """For the report of work that is done: if it cannot be written, one line says so."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        _give_up(error.strerror or str(error))
    except SystemExit:
        # So rich says that nobody reads.
        _give_up("nobody reads it")


def _give_up(reason: str) -> None:
    # The rest goes nowhere, so that the end of the process does not fail on it again.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError, SystemExit):
        say(f"dockyard: done, but the report cannot be written: {reason}.", style="yellow")


def say(sentence: str, style: str) -> None:
    """Print `sentence` to standard error."""
    from rich.console import Console  # noqa: PLC0415 - nothing heavy before it is used
    from rich.text import Text  # noqa: PLC0415 - as above

    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(sentence, style=style))


def warn(warnings: Iterable[str]) -> None:
    """Print each of `warnings` as a sentence to standard error."""
    for warning in warnings:
        say(f"{warning}.", style="yellow")


def print_json(record: Mapping[str, object]) -> None:
    """Print `record` to standard output."""
    from json import dumps  # noqa: PLC0415 - nothing heavy before it is used

    # Answers may be what only YAML knows, such as a date.
    sys.stdout.write(f"{dumps(record, indent=2, default=str)}\n")

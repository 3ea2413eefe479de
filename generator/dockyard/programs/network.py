"""Ends programs that wait too long for a network, so that one dead server holds up no fleet.

Knows processes; knows nothing of git, of forges or of services.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import isfinite
from pathlib import Path

from dockyard.errors import DockyardError

SETTING = "DOCKYARD_NETWORK_TIMEOUT"
_DEFAULT = 120.0
_GRACE = 5.0
"""Seconds that a program has to remove its locks and drafts."""
_patience: ContextVar[float | None] = ContextVar("patience", default=None)


class BadTimeout(DockyardError):
    """The setting of the network timeout is not a duration."""

    def __init__(self, setting: str, said: str) -> None:
        super().__init__(
            f"{setting}={said!r} is not a duration: "
            "give the network timeout in seconds, such as 120."
        )


class TookTooLongError(Exception):
    """A program was ended. The message says after how long, and how to give it longer."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it did not end within {seconds:g} s ({SETTING} sets this limit)")


def patience() -> float:
    """Seconds until a program that talks to a network is ended. Raises BadTimeout."""
    said = os.environ.get(SETTING) or str(_DEFAULT)
    try:
        seconds = float(said)
    except ValueError as error:
        raise BadTimeout(SETTING, said) from error
    if not isfinite(seconds) or seconds <= 0:
        raise BadTimeout(SETTING, said)
    return seconds


@contextmanager
def bounded() -> Iterator[None]:
    """Within this, `run` ends a program after `patience` seconds. Raises BadTimeout."""
    before = _patience.set(patience())
    try:
        yield
    finally:
        _patience.reset(before)


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: bytes = b"",
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """What `command` prints, with `stdin` as its input.

    Raises FileNotFoundError, and within `bounded` TookTooLongError.
    """
    seconds = _patience.get()
    with subprocess.Popen(  # noqa: S603 - fixed programs; arguments never pass a shell
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A session of its own lets us end the programs that it starts. It has no terminal then:
        # in a fleet nobody is asked for a password. Without a bound it keeps the terminal, because
        # only the terminal's foreground group may ask.
        start_new_session=seconds is not None,
    ) as process:
        try:
            out, err = process.communicate(stdin, seconds)
        except subprocess.TimeoutExpired as error:
            _end(process)
            raise TookTooLongError(error.timeout) from error
        except BaseException:
            if seconds is None:
                process.kill()
            else:
                _end(process)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the session of `process`: first ask, then kill what is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

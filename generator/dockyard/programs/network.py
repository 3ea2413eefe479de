"""Ends programs that talk to a network and take too long, so that one that does not answer holds up no fleet.

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

from dockyard.errors import BadTimeout

SETTING = "DOCKYARD_NETWORK_TIMEOUT"
_DEFAULT = 120.0
_GRACE = 5.0
"""Seconds that a program has to remove its locks and drafts."""
_patience: ContextVar[float | None] = ContextVar("patience", default=None)


class TookTooLongError(Exception):
    """A program was ended; says after how long, and how to give it longer."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no end after {seconds:g} s ({SETTING} sets how many there are)")


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
    """Let `run` end what takes longer than `patience`. Raises BadTimeout."""
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
    """What `command` says, given `stdin`. Raises FileNotFoundError, and TookTooLongError within `bounded`."""
    seconds = _patience.get()
    with subprocess.Popen(  # noqa: S603 - fixed programs; arguments never pass a shell
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Programs that it starts end with it. They have no terminal then: in a fleet nobody is asked for a password.
        # Without a bound they keep it, since only the terminal's foreground group may ask.
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
    """End the session of `process`: by request, and what does not heed that by force."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

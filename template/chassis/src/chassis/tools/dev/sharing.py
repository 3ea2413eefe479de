"""One server for all `dev` of an organisation: the first starts it, the last one ends it.

Three files in the server's folder are guarded by flock, which ends with the process that has it:
`users` is locked by every `dev` that uses the server, `keeper` by the process that keeps it, and
`turn` by a `dev` that looks whether there is one. Knows how to share; knows no server.
"""

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex

import structlog

from chassis.tools.dev import keeper, origins
from chassis.tools.dev.server import Launch, Place, Server, ServerMissingError, free_port

_log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.05
_LOG_LINES = 10


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the file `keeper` tells of a server that runs or starts. `by` is a service.

    `pid` is 0 for a moment while it starts.
    """

    port: int
    by: str
    patience: float
    pid: int = 0


@asynccontextmanager
async def shared(
    server: Server, folder: Path, service: str, image: str | None
) -> AsyncIterator[str]:
    """The URL of the `server` that all `dev` with this `folder` share, as `service` uses it.

    If this process was the last one to use the server, it has ended after the block.
    Raises ServerMissingError.
    """
    own = (folder / server.kind).absolute()
    try:
        # As root, PostgreSQL has an account of its own, which must reach its data.
        own.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        (own / ".gitignore").write_text("*\n")
    except OSError as error:
        raise ServerMissingError(
            f"{server.name} cannot keep its data in {own} ({error.strerror}): "
            "set XDG_STATE_HOME to a folder that you may write to"
        ) from error
    with _opened(own / "users") as users:
        await _lock(users, fcntl.LOCK_SH)
        try:
            with _opened(own / "turn") as turn:
                await _lock(turn, fcntl.LOCK_EX)
                place = await _reached(server, own, service, image)
            yield await server.url(place, service)
        finally:
            await _leave(server, own, users)


async def _reached(server: Server, folder: Path, service: str, image: str | None) -> Place:
    """The place of a server that answers: of the one that is kept, or of a new one."""
    if _lives(folder):
        kept = _read(folder)
        place = Place(folder, kept.port, _password(folder))
        await _ready(server, place, kept.patience)
        _log.info(f"joined the {server.name} that {kept.by} started", port=kept.port)
    else:
        place = Place(folder, free_port(), _password(folder))
        launch = await asyncio.to_thread(origins.launch, server, place, image)
        _log.info(f"starting {server.name}", origin=launch.origin, data=str(folder))
        _start(launch, folder, _Kept(place.port, service, launch.patience))
        await _ready(server, place, launch.patience)
    return place


def _start(launch: Launch, folder: Path, kept: _Kept) -> None:
    """Start a keeper, which inherits the lock on its file."""
    told = {
        "users": str(folder / "users"),
        "log": str(folder / "server.log"),
        "command": list(launch.command),
        "user": launch.user,
        "stop": launch.stop,
        "clear": list(launch.clear),
    }
    with _opened(folder / "keeper") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write(folder, kept)
        os.set_inheritable(lock, True)
        command = [sys.executable, "-I", "-S", keeper.__file__, json.dumps(told)]
        null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
        pid = os.posix_spawn(
            sys.executable,
            command,
            {**os.environ, **launch.env},
            file_actions=null,
            setsid=True,  # Ctrl-C in the terminal does not reach it: a service drains first
        )
        _write(folder, _Kept(kept.port, kept.by, kept.patience, pid))


async def _ready(server: Server, place: Place, patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            while not await server.answers(place):
                if not _lives(place.folder):
                    raise ServerMissingError(f"{server.name} ended at once: {_why(place.folder)}")
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise ServerMissingError(
            f"{server.name} does not answer after {patience:g} s: {_why(place.folder)}"
        ) from None


def _why(folder: Path) -> str:
    log = folder / "server.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    said = "\n".join(lines[-_LOG_LINES:])
    return f"the end of {log} follows; without the folder {folder} it starts anew\n{said}"


async def _leave(server: Server, folder: Path, users: int) -> None:
    """Use the server no longer. The last one waits until the server has ended."""
    if not _try(users, fcntl.LOCK_EX):
        _log.info(f"left {server.name} to the others that use it")
        return
    if _lives(folder):
        _log.info(f"stopping {server.name}, which nobody else uses")
        if (pid := _read(folder).pid) != 0:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        else:
            fcntl.flock(users, fcntl.LOCK_UN)  # then it ends by itself
        while _lives(folder):
            await asyncio.sleep(_POLL_SECONDS)


def _lives(folder: Path) -> bool:
    """Whether a keeper has the lock on its file."""
    with _opened(folder / "keeper") as kept:
        return not _try(kept, fcntl.LOCK_EX)


def _read(folder: Path) -> _Kept:
    told = json.loads((folder / "keeper").read_text())
    return _Kept(told["port"], told["by"], told["patience"], told["pid"])


def _write(folder: Path, kept: _Kept) -> None:
    """In place: the lock is on this file."""
    told = json.dumps(asdict(kept)).encode()
    with _opened(folder / "keeper") as file:
        os.pwrite(file, told, 0)
        os.truncate(file, len(told))


def _password(folder: Path) -> str:
    """Of user `dockyard`: made once, since a server remembers it with its data."""
    with _opened(folder / "password") as file:
        if not (known := os.read(file, 64)):
            known = token_hex(16).encode()
            os.write(file, known)
    return known.decode()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _try(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _lock(file: int, how: int) -> None:
    while not _try(file, how):
        await asyncio.sleep(_POLL_SECONDS)

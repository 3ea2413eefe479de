"""A server as `dev` sees it: which programs it is, how they are started, when they answer.

Knows programs and containers; knows no broker and no store.
"""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


class ServerMissingError(RuntimeError):
    """There is no server: not installed, or it did not start. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server lives: its folder, its port of 127.0.0.1, the password of user `dockyard`."""

    folder: Path
    port: int
    password: str

    def write(self, name: str, text: str) -> Path:
        """A file of the folder that only this user reads: it may hold the password."""
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started and stopped, and how long (seconds) it may take to answer.

    `user` runs it as that account. `stop` is the signal that ends it in order. `clear` is a command
    that removes what is left if it was killed. `origin` says where it comes from, in words.
    """

    command: Sequence[str]
    origin: str
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop: str = "TERM"
    clear: Sequence[str] = ()
    patience: float = 120.0


@dataclass(frozen=True, slots=True)
class Container:
    """The server's official image: its port, its data, its variables, its command line.

    `{password}` in a variable is replaced.
    """

    port: int
    data: str
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """`kind` names its files, `name` is for people.

    `programs` maps each program it needs to folders outside of PATH, as glob patterns below /.
    `package` is its name in Debian and Ubuntu. `program` prepares the folder and gives the command
    line of the found programs; it may block. `answers` never raises. `url` is for one service.
    `without` says what differs for a service that has NATS in its place.
    """

    kind: str
    name: str
    programs: Mapping[str, Sequence[str]]
    package: str | None
    container: Container
    program: Callable[[Place, Mapping[str, Path]], Launch]
    answers: Callable[[Place], Awaitable[bool]]
    url: Callable[[Place, str], Awaitable[str]]
    without: str = ""


_PORTS = range(12_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 below the ephemeral ones.

    A client that looks whether a server answers can get an ephemeral port as its own, and would
    connect to itself.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = secrets.choice(_PORTS)
            probe.bind(("127.0.0.1", port))
            return port


async def greeted(port: int, told: bytes, until: bytes) -> bytes:
    """What a server says to `told`, up to and with `until`; as much as there is if it closes."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    try:
        writer.write(told)
        async with asyncio.timeout(5):
            return await reader.readuntil(until)
    except asyncio.IncompleteReadError as ended:
        return ended.partial
    except (OSError, asyncio.LimitOverrunError):  # among them a timeout: not ready
        return b""
    finally:
        writer.close()
        with suppress(OSError):  # the server closed first: closed is closed
            await writer.wait_closed()

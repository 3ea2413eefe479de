"""RabbitMQ 4 out of Debian 13, in a folder that is this process' root while the server runs.

`python -m tests.brokers.debian13 FOLDER` makes FOLDER/root with debootstrap, and FOLDER/programs,
which run what is in it; DOCKYARD_PROGRAMS=FOLDER/programs gives them to the tests. Needs root.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

from tests.brokers.binaries import MissingProgramError, find

_SUITE = "trixie"
_BIN = "/usr/lib/rabbitmq/bin"
_PROGRAMS = ("rabbitmq-diagnostics", "rabbitmq-plugins", "rabbitmq-server", "rabbitmqctl")
_SHARED = ("/proc", "/dev", gettempdir())
"""Erlang asks /proc for the machine's memory; the tests' configuration and data are temporary."""
_PROGRAM = """\
#!/bin/sh
exec unshare --mount sh -ec '
  for folder in {shared}; do mount --rbind "$folder" "{root}$folder"; done
  exec chroot "{root}" "{program}" "$@"
' sh "$@"
"""
_START_NOTHING = "#!/bin/sh\nexit 101\n"


def provide(folder: Path) -> None:
    """Make what is missing in `folder`. Raises CalledProcessError and MissingProgramError."""
    root, programs = folder / "root", folder / "programs"
    if not (root / "usr/lib/rabbitmq/bin").is_dir():
        _run(find("debootstrap"), "--variant=minbase", _SUITE, root)
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text(_START_NOTHING)
        policy.chmod(0o755)
        _run("chroot", root, "apt-get", "update", "-qq")
        _run(
            *("chroot", root, "apt-get", "install", "-y", "-qq", "--no-install-recommends"),
            "rabbitmq-server",
        )
    for shared in _SHARED:
        root.joinpath(shared.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (erlang,) = root.glob("usr/lib/erlang/erts-*/bin")
    programs.mkdir(exist_ok=True)
    paths = [f"{_BIN}/{name}" for name in _PROGRAMS] + [f"/{erlang.relative_to(root)}/epmd"]
    for path in paths:
        program = programs / Path(path).name
        program.write_text(_PROGRAM.format(shared=" ".join(_SHARED), root=root, program=path))
        program.chmod(0o755)


def _run(*command: str | Path) -> None:
    subprocess.run(command, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, check=True)


def main() -> int:
    """Make the folder. The exit code."""
    if os.geteuid() != 0:
        sys.stderr.write("RabbitMQ 4 runs in a chroot, which only root can make and enter.\n")
        return 1
    try:
        provide(Path(sys.argv[1]).resolve())
    except (MissingProgramError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Tries an update: the service's own tests, in a clone that is thrown away. Knows make, nothing of templates."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from dockyard.errors import one_line
from dockyard.programs import git
from dockyard.service import Service

PATIENCE = 1800.0
"""Seconds until tests that do not end count as failed."""
_FOREIGN = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VIRTUAL_ENV", "PYTHONPATH")
_LAST_LINES = 3


def run(service: Service, commit: str, patience: float = PATIENCE) -> str | None:
    """Why `make test` failed in the service as of `commit`; None when it passed."""
    if shutil.which("make") is None:
        return "make is not in PATH, so its tests could not run"
    with tempfile.TemporaryDirectory(
        prefix="dockyard-trial-", ignore_cleanup_errors=True
    ) as scratch:
        clone = Path(scratch) / service.repository.name
        env = git.isolated_environment()
        # Shares the service's objects and leaves nothing there, as a worktree of it would when it is killed.
        git.run(
            "clone",
            "--quiet",
            "--shared",
            "--no-checkout",
            str(service.repository),
            str(clone),
            folder=Path(scratch),
            env=env,
        )
        git.run("checkout", "--quiet", "--detach", commit, folder=clone, env=env)
        return _tests(clone / service.prefix, patience)


def _tests(folder: Path, patience: float) -> str | None:
    env = {name: value for name, value in git.environment().items() if name not in _FOREIGN}
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            ["make", "test"],  # noqa: S607 - the user's make, from PATH
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                status = process.wait(patience)
            except subprocess.TimeoutExpired:
                return f"`make test` did not end within {patience:g} s"
            finally:
                _end(process)
        if status == 0:
            return None
        output.seek(0)
        lines = output.read().decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
    return one_line(f"`make test` ended with {status}: {' / '.join(lines)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever the tests have left running must not outlive them."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return

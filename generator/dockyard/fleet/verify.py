"""Runs a service's own tests on an update, in a clone that is thrown away.

Knows make; knows nothing of templates.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from dockyard.errors import one_line
from dockyard.programs import git, toolchain
from dockyard.programs.scratch import scratch_folder
from dockyard.service import Service

PATIENCE = 1800.0
"""Seconds after which tests that still run count as failed."""
_LAST_LINES = 3


def why_tests_fail(service: Service, commit: str, patience: float = PATIENCE) -> str | None:
    """Why `make test` fails in the service as of `commit`; None if it passes."""
    if shutil.which("make") is None:
        return "make is not in PATH, so its tests could not run"
    with scratch_folder("dockyard-verify-") as scratch:
        clone = scratch / service.repository.name
        env = git.isolated_environment()
        # It shares the service's objects. If this is killed, no worktree stays registered there.
        how = ("clone", "--quiet", "--shared", "--no-checkout")
        git.run(*how, str(service.repository), str(clone), folder=scratch, env=env)
        git.run("checkout", "--quiet", "--detach", commit, folder=clone, env=env)
        return _tests(clone / service.prefix, patience)


def _tests(folder: Path, patience: float) -> str | None:
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            ["make", "test"],  # noqa: S607 - the user's make, from PATH
            cwd=folder,
            env=toolchain.environment(),
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
    """End the programs that the tests left running."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return

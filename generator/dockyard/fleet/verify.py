"""Runs a service's own tests on an update, in a clone that is thrown away.

Knows make; knows nothing of templates.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dockyard.errors import one_line
from dockyard.programs import git, partial, toolchain
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
        _complete(service, commit, clone, env)
        git.run("checkout", "--quiet", "--detach", commit, folder=clone, env=env)
        return _tests(clone / service.prefix, patience)


def _complete(service: Service, commit: str, clone: Path, env: Mapping[str, str]) -> None:
    """Bring the files of `commit` that a partial clone left with its remote. Raises CannotFetch."""
    if not partial.is_partial(service.objects):
        return
    partial.fetch_trees(service.root, commit)
    # The clone shares the objects and, unlike the service, fetches none by itself.
    listed = git.run("ls-tree", "-r", "--format=%(objecttype) %(objectname)", commit, folder=clone)
    pairs = (line.split(" ") for line in listed.splitlines())
    oids = {oid for kind, oid in pairs if kind == "blob"}
    stdin = "".join(f"{oid}\n" for oid in oids).encode()
    told = git.run("cat-file", "--batch-check", folder=clone, env=env, stdin=stdin)
    lacking = [line.split()[0] for line in told.splitlines() if line.endswith(" missing")]
    if lacking:
        partial.fetch(lacking, service.root)


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

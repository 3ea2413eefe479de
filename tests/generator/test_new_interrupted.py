"""`dockyard new` stopped in the middle leaves nothing: no folder, no running program."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.generator.lab import Repository, listing

DEADLINE_SECONDS = 60
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_while_a_program_runs(
    repository: Repository,
    into: Path,
    tmp_path: Path,
    ending: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = tmp_path / "started"
    monkeypatch.setenv("STARTED", str(started))
    repository.commit(
        {
            "template/Makefile": "contracts:\n\t@sh wait.sh\n",
            "template/wait.sh": "touch $STARTED\nsleep 600\ntrue\n",
            "template/buf.gen.yaml": "version: v2\n",
        }
    )

    code, errors = _stop(repository, into, ending, when=started.exists)

    assert (code, listing(into), listing(tmp_path / "scratch")) == (130, [], [])
    assert errors.splitlines()[-1] == "dockyard: interrupted; what was unfinished is removed."


def test_stopped_while_rendering(repository: Repository, into: Path, tmp_path: Path) -> None:
    repository.commit({"template/zz-endless.txt.jinja": ENDLESS})

    code, _ = _stop(
        repository,
        into,
        signal.SIGINT,
        when=lambda: any(into.glob(".dockyard-*/tree/billing-svc/*")),
    )

    assert (code, listing(into), listing(tmp_path / "scratch")) == (130, [], [])


def _stop(
    repository: Repository, into: Path, ending: signal.Signals, when: Callable[[], bool]
) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "dockyard",
        "new",
        "billing-svc",
        "--into",
        str(into),
        "--defaults",
    ]
    command += ["--template", str(repository.path)]
    programs: list[psutil.Process] = []
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background may ignore the signal.
        preexec_fn=lambda: signal.signal(ending, signal.SIG_DFL),  # noqa: PLW1509 - these tests start no thread
    ) as running:
        try:
            _wait_until(lambda: when() or running.poll() is not None)
            programs = psutil.Process(running.pid).children(recursive=True)
            os.kill(running.pid, ending)
            _, errors = running.communicate()
            _wait_until(lambda: not any(map(_is_alive, programs)))
        finally:
            running.kill()
            for program in filter(_is_alive, programs):
                program.kill()
    return running.returncode, errors


def _is_alive(program: psutil.Process) -> bool:
    try:
        return program.is_running() and program.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "the awaited state was not reached"
        time.sleep(0.02)

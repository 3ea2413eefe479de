"""The servers of the tests leave nothing behind, however the test run ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.brokers.process import ServerError, free_port, listens, start

_LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"

_TEST_RUN = """
import sys, time
from pathlib import Path
from tests.brokers.process import listens, start
with start({command!r}, ready=lambda: listens({port}), log=Path({log!r})) as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


def _command(port: int) -> list[str]:
    return [sys.executable, "-c", _LISTEN.format(port=port)]


def _wait_gone(pid: int) -> None:
    deadline = monotonic() + 30
    while monotonic() < deadline:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return
        sleep(0.02)
    pytest.fail(f"process group {pid} is still there")


def test_a_server_is_ready_inside_the_context_and_gone_after_it(tmp_path: Path) -> None:
    port = free_port()
    with start(_command(port), ready=lambda: listens(port), log=tmp_path / "log") as server:
        assert listens(port)
        pid = server.pid
    assert not listens(port)
    _wait_gone(pid)


def test_a_killed_server_starts_again_on_the_same_port(tmp_path: Path) -> None:
    port = free_port()
    with start(_command(port), ready=lambda: listens(port), log=tmp_path / "log") as server:
        server.kill()
        assert not server.alive
        server.start()
        assert listens(port)


def test_a_server_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such disk')"]
    with (
        pytest.raises(ServerError, match="no such disk"),
        start(command, ready=lambda: False, log=tmp_path / "log"),
    ):
        pytest.fail("the server is not ready")


def test_a_server_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    with (
        pytest.raises(ServerError, match="was not ready within"),
        start(_command(port), ready=lambda: False, log=tmp_path / "log", timeout=0.5),
    ):
        pytest.fail("the server is not ready")
    assert not listens(port)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_test_run_that_is_interrupted_or_killed_takes_its_servers_with_it(
    tmp_path: Path, how: signal.Signals
) -> None:
    port = free_port()
    program = _TEST_RUN.format(command=_command(port), port=port, log=str(tmp_path / "log"))
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert run.stdout is not None
    with run:
        server = int(run.stdout.readline())
        run.send_signal(how)
    _wait_gone(server)


def test_a_port_is_given_to_one_process_only() -> None:
    mine = free_port()
    program = f"""
import fcntl
from tests.brokers.process import _locks
fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, {mine})
"""
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "BlockingIOError" in other.stderr

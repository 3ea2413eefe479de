"""A run over several processes keeps related tests together, and nothing outlives it."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests import workers
from tests.brokers.process import listens
from tests.waiting import until

ROOT = Path(__file__).parents[1]

_TWO_TESTS_WITH_SERVERS = """
import sys, time
from pathlib import Path

import pytest

from tests.brokers.process import free_port, listens, start

LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"

@pytest.mark.parametrize("name", ["one", "two"])
def test_that_takes_long(name, tmp_path):
    port = free_port()
    command = [sys.executable, "-c", LISTEN.format(port=port)]
    with start(command, ready=lambda: listens(port), log=tmp_path / "log"):
        Path(__file__).with_name(name).write_text(str(port))
        time.sleep(600)
"""


def _silent(port: int) -> bool:
    return not listens(port)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_interrupted_or_killed_takes_the_servers_of_every_worker_with_it(
    tmp_path: Path, how: signal.Signals
) -> None:
    module = tmp_path / "test_long.py"
    module.write_text(_TWO_TESTS_WITH_SERVERS)
    marks = [tmp_path / "one", tmp_path / "two"]
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", module],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        try:
            until(lambda: all(mark.exists() and mark.read_text() for mark in marks), "two servers")
            # As a terminal does, and as CI does when a job is cancelled: to all of the run at once.
            os.killpg(run.pid, how)
        except BaseException:
            os.killpg(run.pid, signal.SIGKILL)
            raise
    for mark in marks:
        port = int(mark.read_text())
        until(partial(_silent, port), "the end of a server")


def test_the_tests_of_a_module_stay_together_unless_the_table_parts_them() -> None:
    assert workers.unit("tests/docs/test_links.py::test_a[b]") == "tests/docs/test_links.py"
    apart = "tests/laws/test_laws.py::test_a_law"
    assert workers.unit(apart) == apart


@pytest.mark.parametrize("start", [*workers._APART, *workers._FIRST])
def test_the_table_names_tests_that_exist(start: str) -> None:
    path, _, function = start.partition("::")
    assert (ROOT / path).exists()
    if function:
        assert f"\ndef {function}" in (ROOT / path).read_text("utf-8") or (
            f"\nasync def {function}" in (ROOT / path).read_text("utf-8")
        )

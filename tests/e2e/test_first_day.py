"""The first minutes with Dockyard: a new service, its broker and store, its first event."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from uv import find_uv_bin

from tests.brokers.binaries import find
from tests.brokers.process import running
from tests.template import lab
from tests.waiting import PATIENCE_WITH_PROCESSES as PATIENCE
from tests.waiting import until

DOCKYARD = Path(sys.executable).with_name("dockyard")


@pytest.fixture
def state() -> Iterator[Path]:
    """For the servers of `dev`. Pytest's folders are closed to the account of PostgreSQL."""
    with TemporaryDirectory(prefix="state-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def env(state: Path) -> dict[str, str]:
    """As in a terminal of its own: uv on PATH, no virtual environment, no settings."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHASSIS_", "MAKE", "PYTEST_"))
        and name not in {"VIRTUAL_ENV", "MFLAGS"}
    }
    uv = str(Path(find_uv_bin()).parent)
    path = os.pathsep.join([inherited["PATH"], uv])
    uses = {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "PATH": path}
    return inherited | uses | {"XDG_STATE_HOME": str(state)}


def test_a_new_service_handles_its_first_event_on_the_broker_and_store_that_it_chose(
    tmp_path: Path, env: dict[str, str], state: Path
) -> None:
    for program in ("rabbitmq-server", "epmd", "postgres"):
        find(program)
    template = tmp_path / "template"
    template.mkdir()
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")
    chosen = ("--defaults", "--data", "bus=rabbitmq", "--data", "inbox=postgres")
    made = lab.run(
        [DOCKYARD, "new", "billing-svc", "--into", tmp_path, *chosen, "--template", template],
        tmp_path,
        env,
    )
    assert "make dev" in made
    service = tmp_path / "billing-svc"
    assert lab.git(service, "status", "--porcelain") == ""
    log = tmp_path / "dev.log"
    with log.open("wb") as output:
        dev = subprocess.Popen(
            ["make", "dev"], cwd=service, env=env, stdout=output, stderr=output, process_group=0
        )
    try:
        until(lambda: "ready" in log.read_text(), "the service being ready", PATIENCE * 2)
        command = [
            service / ".venv/bin/billing-svc",
            "publish",
            "UserSignedUp",
            "--json",
            '{"user_id": "ada"}',
        ]
        said = lab.run([*command, "--id", "e-1"], service, env)
        assert said == "published acme.signup.v1.UserSignedUp e-1\n"
        until(lambda: "signed up" in log.read_text(), "the event being handled")
        for server in ("RabbitMQ", "PostgreSQL"):
            assert f"starting {server}" in log.read_text()
        os.killpg(dev.pid, signal.SIGINT)
        dev.wait(PATIENCE)
    finally:
        if dev.poll() is None:
            os.killpg(dev.pid, signal.SIGKILL)
            dev.wait()
    assert "drained" in log.read_text()
    # Without a terminal uv hands a Ctrl-C on, and the second one ends `dev` at once.
    until(lambda: not running(state), "the end of the servers of the last `dev`")
    assert lab.git(service, "status", "--porcelain") == "", (
        "what dev leaves behind is ignored by git"
    )
    refused = lab.attempt([*command, "--id", "e-2"], service, env)
    assert refused.returncode == 2
    assert "no `billing-svc dev` is running" in refused.stdout

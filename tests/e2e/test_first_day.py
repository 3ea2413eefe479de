"""The first minutes with Dockyard: a new service, its embedded broker, its first event."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.template import lab
from tests.waiting import PATIENCE_WITH_PROCESSES as PATIENCE
from tests.waiting import until

DOCKYARD = Path(sys.executable).with_name("dockyard")


@pytest.fixture
def env() -> dict[str, str]:
    """As in a terminal of its own: uv on PATH, no virtual environment, no settings."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHASSIS_", "MAKE", "PYTEST_"))
        and name not in {"VIRTUAL_ENV", "MFLAGS"}
    }
    uv = str(Path(find_uv_bin()).parent)
    path = os.pathsep.join([inherited["PATH"], uv])
    return inherited | {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "PATH": path}


def test_a_new_service_handles_its_first_event_without_a_broker_to_install(
    tmp_path: Path, env: dict[str, str]
) -> None:
    template = tmp_path / "template"
    template.mkdir()
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")
    made = lab.run(
        [DOCKYARD, "new", "billing-svc", "--into", tmp_path, "--defaults", "--template", template],
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
        os.killpg(dev.pid, signal.SIGINT)
        dev.wait(PATIENCE)
    finally:
        if dev.poll() is None:
            os.killpg(dev.pid, signal.SIGKILL)
            dev.wait()
    assert "drained" in log.read_text()
    assert lab.git(service, "status", "--porcelain") == "", (
        "what dev leaves behind is ignored by git"
    )
    refused = lab.attempt([*command, "--id", "e-2"], service, env)
    assert refused.returncode == 2
    assert "no `billing-svc dev` is running" in refused.stdout

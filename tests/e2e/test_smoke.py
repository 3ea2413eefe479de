"""`make smoke` of a rendered service on real servers: it passes exactly when the service works."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.brokers.nats import Nats
from tests.e2e.replicas import Effects
from tests.waiting import PATIENCE_WITH_PROCESSES as PATIENCE

Smoke = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def settings(bus_url: str, inbox: Nats, effects: Effects) -> Mapping[str, str]:
    return {
        "CHASSIS_BUS_URL": bus_url,
        "CHASSIS_INBOX_URL": inbox.url,
        "CHASSIS_MAX_ATTEMPTS": "1",
        "TEST_EFFECTS": str(effects.path),
    }


@pytest.fixture
def smoke(service: Path) -> Smoke:
    """Runs the command with these settings and no others."""

    def run(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [service / ".venv/bin/billing-svc", "smoke", *arguments],
            cwd=service,
            env={"PATH": "/usr/bin:/bin", **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE * 2,
        )

    return run


def event(folder: Path, **fields: str) -> Path:
    file = folder / "event.json"
    file.write_text(json.dumps({"type": "acme.signup.v1.UserSignedUp", "event": fields}))
    return file


def test_the_events_of_the_team_are_handled_and_the_replica_drains(
    service: Path, smoke: Smoke, settings: Mapping[str, str], effects: Effects
) -> None:
    done = smoke(*sorted((service / "tests/smoke").glob("*.json")), **settings)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if not line.startswith("{")]
    assert said == ["ready", "handled 1 of acme.signup.v1.UserSignedUp", "drained"]
    assert [id_[:6] for id_ in effects.counts()] == ["smoke-"]
    assert '"event": "drained"' in done.stdout + done.stderr


def test_without_an_event_it_starts_and_drains(
    smoke: Smoke, settings: Mapping[str, str], effects: Effects
) -> None:
    done = smoke(**settings)
    assert done.returncode == 0, done.stderr
    assert not effects.counts()


def test_an_event_that_ends_in_the_dead_letters_fails_it(
    smoke: Smoke, settings: Mapping[str, str], tmp_path: Path
) -> None:
    done = smoke(event(tmp_path, email="poison"), **settings)
    assert done.returncode == 2
    assert "acme.signup.v1.UserSignedUp went to the dead letters" in done.stderr


def test_an_event_that_takes_too_long_fails_it_and_leaves_no_replica_behind(
    smoke: Smoke, settings: Mapping[str, str], tmp_path: Path
) -> None:
    # The start of the replica gets as many seconds as the event.
    done = smoke(event(tmp_path, user_id="slow"), "--seconds", "20", **settings, TEST_PAUSE="600")
    assert done.returncode == 2
    assert "within 20 s acme.signup.v1.UserSignedUp was not handled" in done.stderr
    again = smoke(event(tmp_path, user_id="quick"), **settings)
    assert again.returncode == 0, "nobody else takes the event"


def test_a_store_that_is_not_there_fails_it(smoke: Smoke) -> None:
    done = smoke(
        "--seconds",
        "2",
        CHASSIS_BUS_URL="nats://127.0.0.1:1",
        CHASSIS_INBOX_URL="nats://127.0.0.1:1",
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "billing-svc: within 2 s it was not ready"


def test_a_bus_in_memory_is_refused(smoke: Smoke) -> None:
    done = smoke(CHASSIS_BUS_URL="memory://")
    assert done.returncode == 2
    assert "memory:// lives within one process" in done.stderr


def test_a_broker_that_others_may_listen_to_is_refused_before_anything_is_sent(
    smoke: Smoke, tmp_path: Path
) -> None:
    done = smoke(
        event(tmp_path, user_id="u-1"), CHASSIS_BUS_URL="nats://user:secret@nats.example.com:4222"
    )
    assert done.returncode == 2
    assert "nats://user:***@nats.example.com:4222 is not on this machine" in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "acme.signup.v1.UserSignedUp"}'])
def test_a_file_that_is_no_event_is_refused_by_its_name(
    smoke: Smoke, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text)
    done = smoke(file, CHASSIS_BUS_URL="nats://127.0.0.1:1")
    assert done.returncode == 2
    assert f"{file} is not an event" in done.stderr
    assert done.stderr.count("\n") == 1

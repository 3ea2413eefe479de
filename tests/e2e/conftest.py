"""A service rendered from the working tree, and the brokers to run it on."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.brokers.nats import Nats, nats
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.e2e.replicas import HANDLERS, Effects, Replica
from tests.template import lab

Start = Callable[..., Replica]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service with default answers, its environment made, its handler the one that is counted."""
    template = tmp_path_factory.mktemp("template")
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")
    folder = lab.copy(template, tmp_path_factory.mktemp("service") / "billing-svc", service_name="billing-svc")
    (folder / "src/billing_svc/handlers.py").write_text(HANDLERS)
    env = {**os.environ, "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    for foreign in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        env.pop(foreign, None)
    lab.run(["make", "setup", f"UV={find_uv_bin()}"], folder, env)
    return folder


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Nats]:
    """A NATS server: the inbox, and in some tests the bus too."""
    with nats(tmp_path / "nats") as server:
        yield server


@pytest.fixture(params=["rabbitmq", "nats"])
def bus_url(request: pytest.FixtureRequest, inbox: Nats) -> Iterator[str]:
    if request.param == "nats":
        yield inbox.url
        return
    with shared_rabbitmq().vhost(request.node.name) as url:
        yield url


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects.db")


@pytest.fixture
def start(service: Path, bus_url: str, inbox: Nats, effects: Effects, tmp_path: Path) -> Iterator[Start]:
    """Starts replicas of the service, ready when it returns; settings as keywords such as PREFETCH=10."""
    with ExitStack() as replicas:
        count = 0

        def start_replica(*, pause: float = 0.0, **settings: object) -> Replica:
            nonlocal count
            count += 1
            env = {
                "CHASSIS_BUS_URL": bus_url,
                "CHASSIS_INBOX_URL": inbox.url,
                "CHASSIS_BACKOFF_SECONDS": "0.1",
                "TEST_EFFECTS": str(effects.path),
                "TEST_PAUSE": str(pause),
            }
            env |= {f"CHASSIS_{name}": str(value) for name, value in settings.items()}
            replica = Replica(service, env, tmp_path / f"replica-{count}.log")
            replica.server.start()
            replicas.callback(replica.server.kill)
            return replica

        yield start_replica

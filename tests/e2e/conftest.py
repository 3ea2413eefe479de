"""A service rendered from the working tree, and the brokers to run it on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.brokers.nats import Nats, nats
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.e2e.rendering import render_service
from tests.e2e.replicas import HANDLERS, Effects, Replica
from tests.once import made_once

Start = Callable[..., Replica]


@pytest.fixture(scope="session")
def service(template: Path, run_folder: Path) -> Path:
    """A service whose handler is the one that is counted. Never written to by a test."""
    folder = made_once(run_folder / "e2e", lambda it: render_service(template, it, HANDLERS))
    return folder / "billing-svc"


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
def start(
    service: Path, bus_url: str, inbox: Nats, effects: Effects, tmp_path: Path
) -> Iterator[Start]:
    """Starts replicas of the service and waits until they are ready.

    Settings are keywords, such as PREFETCH=10.
    """
    with ExitStack() as replicas:
        count = 0

        def start_replica(
            *, pause: float = 0.0, gate: Path = tmp_path, **settings: object
        ) -> Replica:
            nonlocal count
            count += 1
            env = {
                "CHASSIS_BUS_URL": bus_url,
                "CHASSIS_INBOX_URL": inbox.url,
                "CHASSIS_BACKOFF_SECONDS": "0.1",
                "TEST_EFFECTS": str(effects.path),
                "TEST_PAUSE": str(pause),
                "TEST_GATE": str(gate),
            }
            env |= {f"CHASSIS_{name}": str(value) for name, value in settings.items()}
            replica = Replica(service, env, tmp_path / f"replica-{count}.log")
            replica.server.start()
            replicas.callback(replica.server.kill)
            return replica

        yield start_replica

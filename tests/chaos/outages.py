"""An outage of the broker or of the store under load: the service waits, and goes on by itself."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.chaos.load import load
from tests.chaos.sink import Effects
from tests.chaos.world import victims
from tests.e2e.replicas import Replica, eventually

PATIENCE = 180.0


@dataclass(frozen=True, slots=True)
class Outage:
    """What became of a run. `recovery` is in seconds, from when the server answered until all replicas were ready."""

    events: int
    lost: list[str]
    effects: Effects
    same_processes: bool
    recovery: float


def outage(
    bus: str, store: str, contracts: Path, folder: Path, *, of: Literal["broker", "store"], seconds: float
) -> Outage:
    """Take the broker or the store away from two replicas for `seconds`."""
    with victims(bus, store, folder) as made:
        replicas = made.start_replicas(2, PYTHONPATH=str(contracts), VICTIM_PAUSE="0.005")
        pids = [replica.server.pid for replica in replicas]
        server = made.broker if of == "broker" else made.store
        with load(made.bus_url, lambda: len(made.sink.handled())) as confirmed:
            eventually(lambda: len(made.sink.handled()) >= 200, "events being handled")
            server.stop()
            for replica in replicas:
                eventually(lambda at=replica: _says_it_is_not_ready(at), "the service saying that it is not ready")  # type: ignore[misc] # mypy cannot infer a lambda with a default
            time.sleep(seconds)
            server.start()
            answered = time.monotonic()
            eventually(lambda: all(replica.ready() for replica in replicas), "the service being ready again")
            recovery = time.monotonic() - answered
            before = len(made.sink.handled())
            eventually(lambda: len(made.sink.handled()) >= before + 200, "events being handled again")
        expected = set(confirmed)
        eventually(lambda: made.sink.handled() >= expected, "every event being handled", PATIENCE)
        effects = made.sink.effects(killed=set())
        same = [replica.server.alive and replica.server.pid for replica in replicas] == pids
        return Outage(len(confirmed), sorted(expected - effects.handled), effects, same, recovery)


def _says_it_is_not_ready(replica: Replica) -> bool:
    return replica.get("/readyz")[0] == 503

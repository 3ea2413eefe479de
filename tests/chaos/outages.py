"""Under load the broker, the store or both go away: the service waits, and goes on by itself."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.chaos.load import load
from tests.chaos.repeats import Effects
from tests.chaos.world import victims
from tests.e2e.replicas import Replica
from tests.waiting import until

Of = Literal["broker", "store", "both"]
PATIENCE = 180.0


@dataclass(frozen=True, slots=True)
class Outage:
    """The figures of a run.

    `recovery`: seconds from the moment all servers answered until all replicas were ready.
    """

    events: int
    lost: list[str]
    effects: Effects
    same_processes: bool
    recovery: float


def outage(
    bus: str, store: str, contracts: Path, folder: Path, *, of: Of, seconds: float
) -> Outage:
    """Take the broker, the store or both away from two replicas for `seconds`."""
    with victims(bus, store, folder) as made:
        replicas = made.start_replicas(2, PYTHONPATH=str(contracts), VICTIM_PAUSE="0.005")
        pids = [replica.server.pid for replica in replicas]
        servers = {"broker": [made.broker], "store": [made.store], "both": made.servers}[of]
        with load(made.bus_url, lambda: len(made.sink.handled())) as confirmed:
            until(lambda: len(made.sink.handled()) >= 200, "events being handled")
            for server in servers:
                server.stop()
            for replica in replicas:
                until(
                    lambda at=replica: _says_it_is_not_ready(at),
                    "the service saying that it is not ready",
                )  # type: ignore[misc] # mypy cannot infer a lambda with a default
            time.sleep(seconds)
            for server in servers:
                server.start()
            answered = time.monotonic()
            until(
                lambda: all(replica.ready() for replica in replicas),
                "the service being ready again",
            )
            recovery = time.monotonic() - answered
            before = len(made.sink.handled())
            until(lambda: len(made.sink.handled()) >= before + 200, "events being handled again")
        expected = set(confirmed)
        until(lambda: made.sink.handled() >= expected, "every event being handled", PATIENCE)
        until(made.idle, "nothing being in hand", PATIENCE)
        effects = made.sink.effects(made.diary)
        same = [replica.server.alive and replica.server.pid for replica in replicas] == pids
        return Outage(len(confirmed), sorted(expected - effects.handled), effects, same, recovery)


def _says_it_is_not_ready(replica: Replica) -> bool:
    return replica.get("/readyz")[0] == 503

"""Rolling restarts under load: each replica in turn gets SIGTERM and is started again."""

from dataclasses import dataclass
from pathlib import Path

from tests.chaos.load import load
from tests.chaos.repeats import Effects
from tests.chaos.world import victims
from tests.waiting import until

PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Restarts:
    """What a run was and what became of it. `exits` holds an exit code for each restart."""

    events: int
    exits: list[int]
    lost: list[str]
    effects: Effects


def restart(bus: str, store: str, contracts: Path, folder: Path, *, times: int) -> Restarts:
    """Restart two replicas in turn, each while it has events in hand."""
    with victims(bus, store, folder) as made:
        replicas = made.start_replicas(2, PYTHONPATH=str(contracts), VICTIM_PAUSE="0.02")
        exits = []
        with load(made.bus_url, lambda: len(made.sink.handled())) as confirmed:
            for number in range(times):
                replica = replicas[number % 2]
                until(
                    lambda at=replica: at.metric("chassis_in_flight_messages") > 0,
                    "events being in flight",
                )  # type: ignore[misc] # mypy cannot infer a lambda with a default
                exits.append(replica.terminate())
                replica.server.kill()  # it has ended: only tidies up
                replica.server.start()
        expected = set(confirmed)
        until(lambda: made.sink.handled() >= expected, "every event being handled", PATIENCE)
        until(made.idle, "nothing being in hand", PATIENCE)
        effects = made.sink.effects(made.diary)
        return Restarts(len(confirmed), exits, sorted(expected - effects.handled), effects)

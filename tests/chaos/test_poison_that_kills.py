"""An event that kills every process that handles it becomes a dead letter and harms no other."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import pytest

from tests.brokers.process import ServerError
from tests.chaos.load import publish_until_confirmed
from tests.chaos.world import SHORT_PAIRS, World, victims
from tests.e2e.publishers import signed_up
from tests.e2e.replicas import Replica
from tests.waiting import until

KILLER = "killer"
INNOCENT = [f"e-{number}" for number in range(20)]

_log = logging.getLogger(__name__)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("bus", "store"), SHORT_PAIRS)
def test_an_event_that_kills_its_process_ends_in_the_dead_letters_and_those_beside_it_are_handled(
    bus: str, store: str, generated_contracts: Path, tmp_path: Path
) -> None:
    env = {
        "PYTHONPATH": str(generated_contracts),
        "CHASSIS_LEASE_SECONDS": "1",
        "CHASSIS_HANDLER_TIMEOUT_SECONDS": "0.9",
    }
    with victims(bus, store, tmp_path) as made:
        (replica,) = made.start_replicas(1, **env)
        events = [*INNOCENT[:10], KILLER, *INNOCENT[10:]]
        asyncio.run(
            publish_until_confirmed(made.bus_url, [(id_, signed_up(id_)) for id_ in events])
        )
        deaths = _restarted_until_at_rest(made, replica)
        _log.info("%d deaths of the process", deaths)
        assert made.sink.handled() == set(INNOCENT)
        (letter,) = replica.dead_letters()
    assert (letter["event"]["user_id"], letter["reason"]) == (KILLER, "crash_loop")


def _restarted_until_at_rest(made: World, replica: Replica) -> int:
    """Start the process again whenever it has died, as a cluster does; how often that was."""
    deaths = 0

    def rests() -> bool:
        nonlocal deaths
        if not replica.server.alive:
            deaths += 1
            replica.server.kill()  # it has ended: only tidies up
            with suppress(ServerError):  # it may die again before it is ready
                replica.server.start()
            return False
        try:
            return (
                made.sink.handled() >= set(INNOCENT)
                and made.idle()
                and bool(replica.dead_letters())
            )
        except OSError:  # it has just died
            return False

    until(rests, "the event being a dead letter", patience=300)
    return deaths

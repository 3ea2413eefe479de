"""The failure matrix: the outcome of a fault at each point of an event's way.

An effect may repeat only where the fault comes between the effect and its completion in the inbox.
"""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.failure_matrix import AROUND, BESIDE, MARKED, Outcome, scene
from tests.chaos.world import LONG, PAIRS, SHORT_PAIRS
from tests.waiting import until


@pytest.fixture(params=PAIRS if LONG else SHORT_PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A bus and a store."""
    return request.param  # type: ignore[no-any-return] # what pytest was given


def _nothing_else_happened(outcome: Outcome, events: list[str]) -> None:
    """Nothing is lost, and no other event's effect repeats.

    The marked event published the same ids in each of its executions.
    """
    assert outcome.executions.keys() == {*events, MARKED}
    assert {event: outcome.executions[event] for event in events} == dict.fromkeys(events, 1)
    assert outcome.effects.twice_at_a_keyed_sink == []
    assert {cause: len(ids) for cause, ids in outcome.published.items()} == dict.fromkeys(
        [*events, MARKED], 1
    )


@pytest.mark.parametrize(
    ("point", "executions"),
    [
        ("before_claim", 1),
        ("after_claim", 1),
        ("during_the_handler", 1),
        ("after_the_effect", 2),
        ("after_publish", 2),
        ("after_complete", 1),
        ("after_ack", 1),
    ],
)
def test_a_process_killed(
    point: str, executions: int, pair: tuple[str, str], generated_contracts: Path, tmp_path: Path
) -> None:
    bus, store = pair
    with scene(
        bus, store, generated_contracts, tmp_path, point=point, fault="kill", beside=len(BESIDE)
    ) as played:
        played.publish([*AROUND[:5], MARKED, *BESIDE, *AROUND[5:]])
        played.until_killed()
        outcome = played.outcome([MARKED, *BESIDE, *AROUND])
    _nothing_else_happened(outcome, [*BESIDE, *AROUND])
    assert outcome.executions[MARKED] == executions


def test_store_gone(pair: tuple[str, str], generated_contracts: Path, tmp_path: Path) -> None:
    """Between the effect and its completion, and for claims: completed once it is back."""
    bus, store = pair
    with scene(
        bus, store, generated_contracts, tmp_path, point="after_the_effect", fault="hold", lease=20
    ) as played:
        pid = played.victim.server.pid
        played.publish([MARKED])
        played.until_the_fault()
        played.made.store.kill()
        played.publish(AROUND)
        until(lambda: played.victim.get("/readyz")[0] == 503, "the service being not ready")
        assert not played.made.sink.handled() - {MARKED}, "nothing is handled without a claim"
        played.go_on()
        played.made.store.start()
        outcome = played.outcome([MARKED, *AROUND])
        until(played.victim.ready, "the service being ready again")
        assert played.victim.server.pid == pid
    _nothing_else_happened(outcome, AROUND)
    assert outcome.executions[MARKED] == 1


def test_broker_gone(pair: tuple[str, str], generated_contracts: Path, tmp_path: Path) -> None:
    """Between the effect and what it publishes: published once it is back."""
    bus, store = pair
    with scene(
        bus, store, generated_contracts, tmp_path, point="after_the_effect", fault="hold", lease=20
    ) as played:
        pid = played.victim.server.pid
        played.publish(AROUND[:5])
        until(lambda: len(played.made.sink.published()) == 5, "the first events being handled")
        played.publish([MARKED])
        played.until_the_fault()
        played.made.broker.stop()
        until(lambda: played.victim.get("/readyz")[0] == 503, "the service being not ready")
        played.go_on()
        played.made.broker.start()
        until(played.victim.ready, "the service being ready again")
        played.publish(AROUND[5:])
        outcome = played.outcome([MARKED, *AROUND])
        assert played.victim.server.pid == pid
    _nothing_else_happened(outcome, AROUND)
    assert outcome.executions[MARKED] == 1


def test_lease_lost_while_the_handler_still_runs(
    pair: tuple[str, str], generated_contracts: Path, tmp_path: Path
) -> None:
    """After the effect, the process stands still beyond its lease; another takes the event over."""
    bus, store = pair
    with scene(
        bus,
        store,
        generated_contracts,
        tmp_path,
        point="after_the_effect",
        fault="stop",
        prefetch=1,
    ) as played:
        played.publish([MARKED])
        played.until_stopped()
        stopped = played.victim.server
        played.made.start_replicas(1, **played.victim.env)
        played.publish(
            [MARKED, *AROUND]
        )  # RabbitMQ keeps a message for a process that stands still: hence a copy
        until(
            lambda: played.made.sink.executions()[MARKED] == 2,
            "the other process taking the event over",
        )
        stopped.resume()
        until(
            lambda: played.victim.metric("chassis_inbox_leases_lost_total") == 1,
            "the loss being noticed",
        )
        outcome = played.outcome([MARKED, *AROUND])
    _nothing_else_happened(outcome, AROUND)
    assert outcome.executions == Counter([*AROUND, MARKED, MARKED])

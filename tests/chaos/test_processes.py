"""Processes whose replicas are killed, in short. `make chaos-processes` has ten thousand."""

from pathlib import Path

import pytest

from tests.chaos.processes import play


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bus", "store"), [("rabbitmq", "postgres"), ("nats", "nats-kv")])
def test_every_order_ends_as_it_has_to_although_a_replica_is_killed(
    bus: str, store: str, generated_contracts: Path, tmp_path: Path
) -> None:
    report = play(bus, store, generated_contracts, tmp_path, orders=30, kills=2, seed=1)
    assert report.wrong == []
    assert report.published == []
    assert report.dead == 0

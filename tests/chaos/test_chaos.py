"""The short form, in every test run. `make chaos` plays the long one."""

from pathlib import Path

import pytest

from tests.chaos.play import play


# The bare publisher's client fails in its own coroutines when its broker goes away; the chassis has
# no part in it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("bus", "store"), [("rabbitmq", "postgres"), ("nats", "nats-kv")])
def test_nothing_is_lost_and_only_kills_repeat_an_effect(
    bus: str, store: str, chaos_service: Path, tmp_path: Path
) -> None:
    report = play(bus, store, chaos_service, tmp_path, events=300, faults=4, seed=20261123)
    assert report.broken == {}
    assert bool(report.written) == (store == "postgres")

"""Rolling restarts and outages, in short. `make chaos` plays the long forms with figures."""

import asyncio
import logging
from pathlib import Path
from typing import get_args

import pytest

from chassis.bus.rabbitmq.bus import reconnect_delay
from chassis.handling.outage import GRACE_SECONDS
from chassis.handling.surroundings import Limits
from chassis.jetstream import connection
from tests.chaos.load import publish_until_confirmed
from tests.chaos.outages import Of, outage
from tests.chaos.restarts import restart
from tests.chaos.world import LONG, ONE_SERVER, PAIRS, SHORT_PAIRS, victims
from tests.e2e.publishers import signed_up
from tests.waiting import until

TIMES = 20 if LONG else 2  # each of the two replicas
SECONDS = 30.0 if LONG else 3.0
RECOVERY_SECONDS = 5.0
LONG_OUTAGES = [*((*pair, of) for pair in PAIRS for of in get_args(Of)), (*ONE_SERVER, "both")]
SHORT_OUTAGES = [
    *((*pair, of) for pair in SHORT_PAIRS for of in ("broker", "store")),
    ("nats", "redis", "both"),
]
OUTAGES = LONG_OUTAGES if LONG else SHORT_OUTAGES

_log = logging.getLogger(__name__)

# The bare publisher's client fails in its own coroutines when its broker goes away; the chassis has
# no part in it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("bus", "store"), [*PAIRS, ONE_SERVER] if LONG else SHORT_PAIRS)
def test_rolling_restarts_under_load_lose_nothing_and_repeat_nothing(
    bus: str, store: str, generated_contracts: Path, tmp_path: Path
) -> None:
    report = restart(bus, store, generated_contracts, tmp_path, times=TIMES)
    _log.info(
        "%d restarts, %d events: lost %d, twice %d",
        TIMES,
        report.events,
        len(report.lost),
        report.effects.repeats,
    )
    assert report.exits == [0] * TIMES
    assert report.lost == []
    assert report.effects.unexplained == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("bus", "store", "of"), OUTAGES)
def test_an_outage_restarts_no_process_loses_nothing_and_repeats_nothing(
    bus: str, store: str, of: Of, generated_contracts: Path, tmp_path: Path
) -> None:
    report = outage(bus, store, generated_contracts, tmp_path, of=of, seconds=SECONDS)
    _log.info(
        "%g s without the %s, %d events: ready after %.1f s",
        SECONDS,
        of,
        report.events,
        report.recovery,
    )
    assert report.same_processes
    assert report.lost == []
    assert report.effects.unexplained == []
    assert report.effects.twice_at_a_keyed_sink == []
    if LONG:  # on a machine of its own, not beside all other tests
        assert report.recovery < RECOVERY_SECONDS


@pytest.mark.parametrize(("bus", "store"), SHORT_PAIRS)
def test_a_handler_that_ignores_its_cancellation_does_not_keep_the_process_from_ending(
    bus: str, store: str, generated_contracts: Path, tmp_path: Path
) -> None:
    with victims(bus, store, tmp_path) as made:
        env = {"PYTHONPATH": str(generated_contracts), "CHASSIS_DRAIN_SECONDS": "1"}
        (replica,) = made.start_replicas(1, **env)
        asyncio.run(publish_until_confirmed(made.bus_url, [("stubborn", signed_up("u"))]))
        until(lambda: replica.metric("chassis_in_flight_messages") == 1, "the event being in hand")
        assert replica.terminate() == 0


def test_a_broker_that_is_away_is_asked_again_at_least_every_three_seconds() -> None:
    assert max(reconnect_delay(failures) for failures in range(1_000)) <= 3
    assert connection._BACKOFF_MAX_SECONDS <= 3


def test_after_an_outage_every_replica_has_found_the_store_before_anything_is_taken() -> None:
    probe = Limits(handler_timeout=20, lease=30, max_body=1).probe
    assert connection._BACKOFF_MAX_SECONDS + probe < GRACE_SECONDS
    assert GRACE_SECONDS + connection._BACKOFF_MAX_SECONDS + probe < RECOVERY_SECONDS

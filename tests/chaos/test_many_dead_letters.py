"""Thousands of dead letters are nothing special. `make chaos` has five thousand."""

import logging
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.letters import BODY_BYTES, replay
from tests.chaos.world import LONG, SHORT_PAIRS

# More than twice what a command keeps in flight, which does not depend on their number.
OVERSIZE, BROKEN = (4_500, 500) if LONG else (700, 50)

_log = logging.getLogger(__name__)


@pytest.mark.parametrize(("bus", "store"), SHORT_PAIRS)
def test_many_dead_letters_are_listed_filtered_and_replayed_without_handling_any_twice(
    bus: str, store: str, generated_contracts: Path, tmp_path: Path
) -> None:
    report = replay(
        bus, store, generated_contracts, tmp_path, oversize=OVERSIZE, broken=BROKEN, rate=1_000
    )
    growth = (report.grown_by_listing, report.grown_by_replaying)
    _log.info(
        "bytes that %d entries cost to list and to replay: %d, %d", OVERSIZE + BROKEN, *growth
    )
    assert report.reasons == Counter(oversize=OVERSIZE, bad_envelope=BROKEN)
    assert report.chosen == OVERSIZE
    assert report.executions == Counter(f"e-{number}" for number in range(OVERSIZE))
    assert report.effects.twice_at_a_keyed_sink == []
    assert report.left == Counter(bad_envelope=BROKEN)
    # What is in flight takes about 9 MB, however many there are; all of them would take twice
    # their bodies and more.
    assert max(growth) < OVERSIZE * BODY_BYTES, "the entries are not all held in memory"

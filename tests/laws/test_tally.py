"""Comes after the laws: that so many cases were tried as were promised."""

import pytest

from tests.laws.tally import CASES, PLANNED, TRIED


def test_every_law_was_tried_as_often_as_promised(request: pytest.FixtureRequest) -> None:
    if request.session.testsfailed:
        pytest.skip("a law does not hold, so its other cases were not tried")
    chosen = {
        item.originalname for item in request.session.items if isinstance(item, pytest.Function)
    }
    laws = {name: number for name, number in PLANNED.items() if name in chosen}
    assert {name: TRIED[name] for name in laws if TRIED[name] < laws[name]} == {}
    if laws == PLANNED:
        assert TRIED.total() >= CASES

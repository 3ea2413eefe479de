"""The page of a load: what it says, and that a browser shows it on a desk and on a phone."""

import os
import re
from collections import Counter
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import pytest

from chassis.tools.load import Plan
from chassis.tools.load_report import About, report
from chassis.tools.measuring import Result, Sample
from chassis.tools.pages.curves import nice_step
from chassis.tools.scrape import Reading
from tests.brokers.binaries import MissingProgramError
from tests.browser import chromium

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x1b[2J"
ABOUT = About(
    f"orders-svc {HOSTILE}",
    datetime(2026, 6, 1, tzinfo=UTC),
    0.1,
    {"broker": HOSTILE, "types": "acme.orders.v1.OrderPlaced" * 12},
)


def reading(handled: int, age: float, cpu: float) -> Reading:
    ages = Counter({age: handled, inf: handled})
    return Reading(Counter({"done": handled}), 0, ages, cpu, 90e6)


def step(rate: float, age: float) -> Result:
    """A load of ten seconds, of which all is handled."""
    made = Result(Plan(seconds=10, rate=rate), seconds=10.0)
    made.tally.confirmed = round(rate * 10)
    made.tally.seconds = 10.0
    made.tally.confirms.add(0.002)
    made.tally.lateness.add(0.0002)
    for second in range(11):
        handled = reading(round(rate * second), age, second * 0.4)
        made.samples.append(Sample(float(second), round(rate * second), handled))
    made.handled = made.samples[-1].handled
    return made


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "load.html"
    steps = [step(100, 0.02), step(200, 0.03), step(400, 0.9)]
    path.write_text(report(ABOUT, steps, {"raw": HOSTILE}), encoding="utf-8")
    return path


def test_the_page_names_the_knee_and_every_step(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert "The knee: 200 events a second are kept with a p99 of at most 0.1 s." in text
    rows = re.findall(r"<tr><td>(100|200|400)</td>.*?<td>(yes|no)</td></tr>", text)
    assert rows == [("100", "yes"), ("200", "yes"), ("400", "no")]


def test_a_late_generator_and_a_lost_event_are_said_first(tmp_path: Path) -> None:
    late = step(100, 0.02)
    late.tally.lateness.add(2.0)
    late.tally.refused = 1
    text = report(ABOUT, [late], {})
    assert "The generator itself was late" in text
    assert "In 1 of 1 steps an event was refused" in text
    assert "none is missing" not in text


def test_without_metrics_the_page_says_where_curves_come_from() -> None:
    bare = Result(Plan(count=10))
    bare.tally.confirmed = 10
    text = report(ABOUT, [bare], {})
    assert "<svg" not in text
    assert "add --metrics URL" in text


def test_the_page_loads_and_runs_nothing_and_shows_hostile_text_as_text(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    assert not re.search(r"<script|<img|<iframe|https?://|url\(|@import", text)
    assert "default-src 'none'" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_a_browser_shows_it_without_complaint_or_overflow(
    written: Path, width: int, dark: bool
) -> None:
    try:
        with chromium() as browser:
            browser.open(written, width, dark=dark)
            scroll = browser.evaluate("document.documentElement.scrollWidth")
            curves = browser.evaluate(
                "[...document.querySelectorAll('polyline')].filter("
                "(each) => each.getBoundingClientRect().width > 200).length"
            )
            complaints = browser.complaints()
    except MissingProgramError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    assert scroll <= width
    assert curves == 7
    assert complaints == []


@pytest.mark.parametrize(
    ("most", "step"), [(0, 0.25), (4, 1), (4.1, 2), (7, 2), (1_000, 250), (0.013, 0.005)]
)
def test_a_scale_has_round_steps_and_holds_the_most(most: float, step: float) -> None:
    assert nice_step(most) == pytest.approx(step)

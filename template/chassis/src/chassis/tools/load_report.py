"""The report of a load as one HTML page: the verdict, the steps, curves over time, the raw figures.

Knows what was measured; knows no bus and no command.
"""

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from chassis.tools.measuring import Result, Sample
from chassis.tools.pages import page
from chassis.tools.pages.curves import Curve, chart

_SHARES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class About:
    """What was measured: `setting` names everything that a reader needs to repeat it."""

    service: str
    made: datetime
    objective: float
    setting: Mapping[str, str]


def machine() -> dict[str, str]:
    """Where the load ran."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }


def knee(results: Sequence[Result], objective: float) -> float | None:
    """The highest rate that was kept."""
    kept = [one.plan.rate for one in results if one.plan.rate and one.keeps(objective)]
    return max(kept, default=None)


def report(about: About, results: Sequence[Result], figures: object) -> str:
    """The page. `figures` is what the command prints as JSON, and is shown as it is."""
    return page.page(
        f"Load test of {about.service}",
        f"{about.made:%Y-%m-%d %H:%M UTC}",
        [
            *_verdict(about, results),
            page.tiles(_tiles(about, results)),
            page.heading("Steps" if len(results) > 1 else "Figures"),
            _steps(about, results),
            page.heading("Over time"),
            *_charts(results),
            page.heading("What was measured"),
            page.table(("Setting", "Value"), list(about.setting.items())),
            page.folded("Raw figures", json.dumps(figures, indent=1)),
        ],
    )


def _verdict(about: About, results: Sequence[Result]) -> Iterator[str]:
    if any(one.late for one in results):
        yield page.paragraph(
            "The generator itself was late, so the figures of such a step say little. Run it on a "
            "machine of its own, or with fewer events a second.",
            "bad",
        )
    if held_up := sum(one.tally.held_up for one in results if one.plan.rate):
        yield page.paragraph(
            f"{held_up:,} events waited because the broker confirmed so slowly that all places in "
            "flight were taken.",
            "bad",
        )
    lost = sum(1 for one in results if not one.clean)
    if lost:
        yield page.paragraph(
            f"In {lost} of {len(results)} steps an event was refused, dead or not handled in time.",
            "bad",
        )
    else:
        yield page.paragraph("Every event was confirmed, and none is missing.", "good")
    if len(results) > 1 and (best := knee(results, about.objective)) is not None:
        more = "at least " if any(one.late for one in results) else ""
        yield page.paragraph(
            f"The knee: {more}{best:,.0f} events a second are kept with a p99 of at most "
            f"{about.objective:g} s."
        )


def _tiles(about: About, results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    yield f"{sum(one.tally.confirmed for one in results):,}", "published"
    watched = [one.handled for one in results if one.handled is not None]
    if watched:
        yield f"{sum(one.settled for one in watched):,}", "handled"
        yield f"{sum(one.dead for one in watched):,}", "dead letters"
    yield f"{sum(one.tally.refused for one in results):,}", "not confirmed"
    if (best := knee(results, about.objective)) is not None:
        yield f"{best:,.0f}/s", f"kept within {about.objective:g} s"


_COLUMNS = (
    ("Offered/s", lambda one: _number(one.plan.rate)),
    ("Published/s", lambda one: _number(one.tally.per_second)),
    ("Handled/s", lambda one: _number(one.per_second)),
    *((f"Age p{share * 100:g}", lambda one, at=share: _time(one.age(at))) for share in _SHARES),
    *(
        (f"Confirm p{share * 100:g}", lambda one, at=share: _time(one.tally.confirms.quantile(at)))
        for share in (*_SHARES, 1.0)
    ),
    ("Generator late p99", lambda one: _time(one.tally.lateness.quantile(0.99))),
    ("CPU µs an event", lambda one: _number(one.cpu_microseconds)),
)


def _steps(about: About, results: Sequence[Result]) -> str:
    columns: Sequence[tuple[str, Callable[[Result], str]]] = (
        *_COLUMNS,
        ("Kept", lambda one: "yes" if one.keeps(about.objective) else "no"),
    )
    in_order = sorted(results, key=lambda one: one.plan.rate or 0)
    cells = [[value(one) for _, value in columns] for one in in_order]
    measured = [place for place in range(len(columns)) if any(row[place] for row in cells)]
    return page.table(
        [columns[place][0] for place in measured],
        [[row[place] for place in measured] for row in cells],
    )


def _charts(results: Sequence[Result]) -> Iterator[str]:
    samples = list(_joined(results))
    offered = [(at, one.plan.rate) for at, _, one in samples if one.plan.rate]
    rate, age, cpu, memory, backlog = [], [], [], [], []
    published: list[tuple[float, float]] = []
    for (_, before, first), (at, now, second) in pairwise(samples):
        if first is not second or now.at <= before.at:
            continue
        took = now.at - before.at
        between = now.handled.since(before.handled)
        published.append((at, (now.published - before.published) / took))
        rate.append((at, between.settled / took))
        cpu.append((at, between.cpu / took))
        memory.append((at, now.handled.memory / 1e6))
        backlog.append((at, float(max(0, now.published - now.handled.settled))))
        if (slowest := between.age(0.99)) is not None:
            age.append((at, slowest))
    yield chart(
        "Events a second",
        "1/s",
        [Curve("offered", offered), Curve("published", published), Curve("handled", rate)],
    )
    yield chart("Age when handled, from the intended time", "s", [Curve("p99", age)])
    yield chart("Backlog: published and not handled", "events", [Curve("backlog", backlog)])
    yield chart("CPU of the replicas", "cores", [Curve("cpu", cpu)])
    yield chart("Memory of the replicas", "MB", [Curve("memory", memory)])
    if not samples:
        yield page.paragraph("Curves need the replicas' metrics: add --metrics URL.", "quiet")


def _joined(results: Sequence[Result]) -> Iterator[tuple[float, Sample, Result]]:
    """The samples of all steps one after the other, each with its moment in the whole."""
    start = 0.0
    for one in results:
        for sample in one.samples:
            yield start + sample.at, sample, one
        if one.samples:
            start += one.samples[-1].at


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"

"""How many services had which version, over time, as areas of a chart.

Knows dates and versions; draws nothing.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from packaging.version import InvalidVersion, Version

_MOST = 8
"""Versions that a chart tells apart; all older ones are one."""
OLDER = "older"
WIDTH, HEIGHT = 1000, 200


@dataclass(frozen=True, slots=True)
class Area:
    """The services of one version."""

    version: str
    now: int
    """How many have it today."""
    points: str
    """The outline, as SVG's `polygon` has it, within WIDTH and HEIGHT."""
    shade: int
    """From 0, the oldest, to 100, the newest."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The areas, stacked; the newest version's first."""

    areas: tuple[Area, ...]
    since: datetime
    until: datetime
    most: int
    """Services at the chart's top."""


def timeline(histories: Iterable[Sequence[tuple[datetime, str]]], now: datetime) -> Timeline | None:
    """The chart of services' histories; None without any.

    A history is a service's versions and since when it had them, oldest first.
    """
    told = [releases for releases in histories if releases]
    if not told:
        return None
    versions = sorted(
        {version for releases in told for _, version in releases}, key=_rank, reverse=True
    )
    names = {version: version if place < _MOST else OLDER for place, version in enumerate(versions)}
    # A wrong clock must not turn the chart around.
    moments = sorted({min(since, now) for releases in told for since, _ in releases} | {now})
    counts = [
        Counter(names[version] for releases in told if (version := _at(moment, releases)))
        for moment in moments
    ]
    most = max(count.total() for count in counts)
    span = (moments[-1] - moments[0]).total_seconds() or 1.0
    # Each count holds until the next moment.
    lefts = [WIDTH * (moment - moments[0]).total_seconds() / span for moment in moments]
    xs = [x for pair in zip(lefts, [*lefts[1:], float(WIDTH)], strict=True) for x in pair]
    kinds = list(dict.fromkeys(names.values()))
    areas, floors = [], [0.0] * len(xs)
    for place, kind in enumerate(kinds):
        heights = [HEIGHT * count[kind] / most for count in counts for _ in range(2)]
        tops = [floor + height for floor, height in zip(floors, heights, strict=True)]
        outline = [*zip(xs, tops, strict=True), *reversed([*zip(xs, floors, strict=True)])]
        points = " ".join(f"{x:.1f},{HEIGHT - y:.1f}" for x, y in outline)
        areas.append(
            Area(kind, counts[-1][kind], points, 100 - round(100 * place / max(1, len(kinds) - 1)))
        )
        floors = tops
    return Timeline(tuple(areas), moments[0], now, most)


def _at(moment: datetime, releases: Sequence[tuple[datetime, str]]) -> str | None:
    """The version at `moment`, by the last entry that is not later."""
    return next((version for since, version in reversed(releases) if since <= moment), None)


def _rank(version: str) -> tuple[bool, Version, str]:
    try:
        return True, Version(version), version
    except InvalidVersion:
        return False, Version("0"), version

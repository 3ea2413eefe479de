"""Curves over time as SVG: drawn here, so that a page loads nothing and a test can read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from chassis.tools.pages.page import shown

_WIDTH, _HEIGHT = 720, 190
_LEFT, _TOP, _BOTTOM = 62, 8, 22
_LINES = 4


@dataclass(frozen=True, slots=True)
class Curve:
    """A name, and points of seconds and values."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(title: str, unit: str, curves: Sequence[Curve]) -> str:
    """The curves in one figure with a common scale that begins at 0; nothing without points."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    last = max(point[0] for curve in curves for point in curve.points) or 1.0
    step = nice_step(max(point[1] for curve in curves for point in curve.points))
    parts = [_level(step, number) for number in range(_LINES + 1)]
    parts += [_moment(last * number / 6, last) for number in range(7)]
    parts += [
        f'<polyline class="s{place}" points="{_path(curve.points, last, step * _LINES)}"/>'
        for place, curve in enumerate(curves)
    ]
    keys = "".join(
        f'<span class="key s{place}">{shown(curve.name)}</span>'
        for place, curve in enumerate(curves)
    )
    return (
        f"<figure><figcaption>{shown(title)}, {shown(unit)}{keys}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{shown(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def nice_step(most: float) -> float:
    """The distance of the lines of a scale that holds `most`: 1, 2, 2.5, 5 or 10 by a power."""
    if most <= 0:
        return 1.0 / _LINES
    power = 10.0 ** floor(log10(most / _LINES))
    return next(power * lead for lead in (1, 2, 2.5, 5, 10) if power * lead * _LINES >= most)


def _path(points: Sequence[tuple[float, float]], last: float, top: float) -> str:
    return " ".join(f"{_x(at, last):.1f},{_y(value, top):.1f}" for at, value in points)


def _x(at: float, last: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - 8) * at / last


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top


def _level(step: float, number: int) -> str:
    y = _y(number, _LINES)
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{step * number:,.4g}</text>'
    )


def _moment(at: float, last: float) -> str:
    rounded = ceil(at) if last >= 12 else round(at, 1)
    return (
        f'<text x="{_x(at, last):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{rounded:g} s</text>'
    )

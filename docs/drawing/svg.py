"""Shapes as SVG text: cards, arrows, labels, pages. Knows colours and fonts; knows no picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

SANS = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
RADIUS = 10

Point = tuple[float, float]
Colours = Mapping[str, str]
"""A CSS selector and its declarations."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def left(self) -> Point:
        return self.x, self.middle[1]

    @property
    def right(self) -> Point:
        return self.x + self.width, self.middle[1]

    @property
    def top(self) -> Point:
        return self.middle[0], self.y

    @property
    def bottom(self) -> Point:
        return self.middle[0], self.y + self.height


def rectangle(box: Box, kind: str, radius: float = RADIUS) -> str:
    """The bare rectangle, of the CSS class `kind`."""
    return (
        f'<rect class="{kind}" x="{box.x:g}" y="{box.y:g}" '
        f'width="{box.width:g}" height="{box.height:g}" rx="{radius:g}"/>'
    )


def text(place: Point, words: str, kind: str, anchor: str = "middle") -> str:
    """One line of text whose baseline runs through `place`."""
    return (
        f'<text class="{kind}" x="{place[0]:g}" y="{place[1]:g}" text-anchor="{anchor}">'
        f"{escape(words, quote=False)}</text>"
    )


def columns(place: Point, words: str, kind: str, width: float) -> str:
    """Text of a terminal from `place` on: in every font, each character is `width` wide."""
    return (
        f'<text class="{kind}" x="{place[0]:g}" y="{place[1]:g}" xml:space="preserve" '
        f'textLength="{len(words) * width:g}" lengthAdjust="spacingAndGlyphs">'
        f"{escape(words, quote=False)}</text>"
    )


def card(box: Box, kind: str, title: str, *lines: str) -> str:
    """A rectangle with a title and lines below it, in its middle."""
    x, y = box.middle
    first = y + 5 - 8.5 * len(lines)
    words = [text((x, first), title, "title")]
    words += [text((x, first + 18 + 17 * n), line, "note") for n, line in enumerate(lines)]
    return "\n".join([rectangle(box, kind), *words])


def arrow(kind: str, *points: Point) -> str:
    """A line along `points` with round corners and a head, of the CSS class `kind`."""
    path = ["M{:g} {:g}".format(*points[0])]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        path.append("L{:g} {:g}".format(*_toward(corner, before)))
        path.append("Q{:g} {:g} {:g} {:g}".format(*corner, *_toward(corner, after)))
    path.append("L{:g} {:g}".format(*points[-1]))
    return f'<path class="line {kind}" marker-end="url(#{kind})" d="{" ".join(path)}"/>'


def heads(kinds: Sequence[str]) -> str:
    """The arrow heads of all kinds of arrows in a page."""
    shape = "M0 0 L9 4.5 L0 9 Z"
    markers = [
        f'<marker id="{kind}" viewBox="0 0 9 9" refX="8" refY="4.5" markerWidth="9" '
        f'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path class="head {kind}" d="{shape}"/></marker>'
        for kind in kinds
    ]
    return f"<defs>{''.join(markers)}</defs>"


def styles(light: Colours, dark: Colours) -> str:
    """A style sheet; a reader whose browser prefers dark gets `dark` over `light`."""
    return f"{_rules(light)}\n@media (prefers-color-scheme: dark) {{\n{_rules(dark)}\n}}"


def page(box: Box, title: str, description: str, style: str, body: Sequence[str]) -> str:
    """A whole SVG file. `title` and `description` are for readers who see no pictures."""
    width, height = f"{box.width:g}", f"{box.height:g}"
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title about"',
            f'  width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="about">{escape(description)}</desc>',
            f"<style>\n{style}\n</style>",
            *body,
            "</svg>\n",
        ]
    )


def _toward(corner: Point, other: Point) -> Point:
    """The point on the way from `corner` to `other` at which the round corner begins."""
    across, down = other[0] - corner[0], other[1] - corner[1]
    length = max(abs(across), abs(down))
    part = min(RADIUS, length / 2) / length
    return corner[0] + across * part, corner[1] + down * part


def _rules(colours: Colours) -> str:
    return "\n".join(f"{selector} {{{declared}}}" for selector, declared in colours.items())

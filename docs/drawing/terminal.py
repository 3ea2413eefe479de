"""The picture of a terminal, with the colours that the demo has on one."""

import re
from collections.abc import Iterator

from docs.drawing.svg import MONO, Box, columns, page, rectangle, styles

COLUMN, LINE, GAP = 8.1, 18, 9
"""Pixels: the width of a character, the height of a line and of an empty one."""

MARGIN, BAR = 24, 40
COLUMNS = 100
COLOURS = {
    "text": f"font-family:{MONO};font-size:13.5px;fill:#d1d7e0",
    ".terminal": "fill:#151b23;stroke:#3d444d",
    ".dim": "fill:#9198a1",
    ".step": "fill:#76e3ea;font-weight:600",
    ".prompt, .good": "fill:#56d364",
    ".bad": "fill:#ff7b72",
    ".last": "fill:#56d364;font-weight:600",
    ".red": "fill:#ff5f57",
    ".yellow": "fill:#febc2e",
    ".green": "fill:#28c840",
}
"""The same on a light and on a dark page: a terminal is dark."""

_KINDS = [
    (re.compile(r"(?P<step>\d+\. .*)"), ("step",)),
    (re.compile(r"(?P<prompt> +\$ )(?P<typed>.*)"), ("prompt", "typed")),
    (re.compile(r"(?P<good> +✓ )(?P<fact>.*)"), ("good", "fact")),
    (re.compile(r"(?P<bad> +✗ )(?P<fact>.*)"), ("bad", "fact")),
    (re.compile(r"(?P<bad> +- .*)"), ("bad",)),
    (re.compile(r"(?P<good> +\+ .*)"), ("good",)),
    (re.compile(r"(?P<last>ledger: .*)"), ("last",)),
    (re.compile(r"(?P<dim>.*)"), ("dim",)),
]


def draw(recording: str) -> str:
    """The SVG of a terminal that shows `$ make demo` and the lines of `recording`."""
    lines = [" $ make demo", "", *recording.splitlines()]
    shown: list[str] = []
    y = float(BAR + LINE)
    for line in lines:
        shown += _line(line, y)
        y += LINE if line.strip() else GAP
    box = Box(0, 0, 2 * MARGIN + COLUMNS * COLUMN, y + MARGIN - LINE / 2)
    return page(
        box,
        "What make demo prints",
        "A terminal. The text is in demo.txt beside this picture.",
        styles(COLOURS, {}),
        [
            rectangle(Box(0.5, 0.5, box.width - 1, box.height - 1), "terminal", 10),
            *(
                f'<circle class="{colour}" cx="{MARGIN + 20 * n}" cy="22" r="6"/>'
                for n, colour in enumerate(("red", "yellow", "green"))
            ),
            *shown,
        ],
    )


def _line(line: str, y: float) -> Iterator[str]:
    """The parts of a line by their colour, each at its column in every font."""
    pattern, kinds = next(kind for kind in _KINDS if kind[0].fullmatch(line))
    found = pattern.fullmatch(line)
    assert found is not None  # noqa: S101 - it was chosen because it fits
    for kind in kinds:
        words = found[kind].strip()
        if words:
            column = found.start(kind) + len(found[kind]) - len(found[kind].lstrip())
            yield columns((MARGIN + column * COLUMN, y), words, kind, COLUMN)

"""One HTML page in one file: nothing is loaded, nothing runs, text from outside is escaped.

It is readable in the dark, on a phone and on paper.
"""

from collections.abc import Iterable, Sequence
from html import escape

from chassis.telemetry.text import harmless_line

_STYLE = """
:root { --paper: #f6f7f9; --card: #fff; --ink: #1a2230; --quiet: #5c6779; --line: #dfe4ea;
  --good: #1a7f4b; --bad: #c02f36; --s0: #2456c7; --s1: #b4540a; --s2: #1a7f4b; --s3: #7a3fb0; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161d; --card: #1a2029; --ink: #e6eaf0;
  --quiet: #98a3b3; --line: #2c3542; --good: #4cc38a; --bad: #ff7a7f; --s0: #7da4ff;
  --s1: #f0a35e; --s2: #4cc38a; --s3: #c08cf0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 2rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
p { margin: .3rem 0; }
.quiet { color: var(--quiet); }
.good { color: var(--good); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem;
  margin: 1.2rem 0; }
.tile, figure, .wide, details { margin: 0 0 .75rem; padding: .8rem 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; }
.tile { margin: 0; }
.tile b { display: block; font-size: 1.4rem; line-height: 1.2; }
.tile span, figcaption, th { color: var(--quiet); font-size: .85rem; font-weight: 400; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; }
:is(th, td):first-child { text-align: left; }
td { border-top: 1px solid var(--line); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
svg line { stroke: var(--line); }
svg polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.s0 { stroke: var(--s0); --tone: var(--s0); } .s1 { stroke: var(--s1); --tone: var(--s1); }
.s2 { stroke: var(--s2); --tone: var(--s2); } .s3 { stroke: var(--s3); --tone: var(--s3); }
.key { margin-left: 1em; color: var(--tone); font-weight: 600; }
pre { margin: .5rem 0 0; overflow-x: auto; white-space: pre-wrap; font-size: .8rem; }
@media print { body { max-width: none; background: none; }
  .tile, figure, .wide { break-inside: avoid; } }
"""


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def shown(value: object) -> str:
    """A value as text of a page."""
    return escape(harmless_line(str(value)))


def page(title: str, about: str, body: Iterable[str]) -> str:
    """The whole file. `body` is HTML of this room's functions; `title` and `about` are text."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{shown(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            f'<h1>{shown(title)}</h1><p class="quiet">{shown(about)}</p>',
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def heading(text: str) -> str:
    return f"<h2>{shown(text)}</h2>"


def paragraph(text: str, tone: str = "") -> str:
    """`tone` is `good`, `bad`, `quiet` or nothing."""
    return f'<p class="{tone}">{shown(text)}</p>'


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Values with what each is, side by side."""
    each = (
        f'<div class="tile"><b>{shown(value)}</b><span>{shown(what)}</span></div>'
        for value, what in values
    )
    return f'<div class="tiles">{"".join(each)}</div>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{shown(each)}</th>' for each in headings)
    lines = (f"<tr>{''.join(f'<td>{shown(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def folded(summary: str, text: str) -> str:
    """Long text that a click shows."""
    return f"<details><summary>{shown(summary)}</summary><pre>{escape(text)}</pre></details>"

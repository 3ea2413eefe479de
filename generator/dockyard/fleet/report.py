"""How a fleet stands, as one page for a browser: no network, nothing beside it. Decides nothing.

Names, paths and messages come from repositories that anybody may have written: the template escapes all of them, and
the page allows no script but its own.
"""

from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dockyard.errors import CannotWriteReport
from dockyard.fleet.roster import Member, Roster
from dockyard.fleet.status import Release, Row, State, history
from dockyard.fleet.timeline import Timeline, timeline
from dockyard.programs.tree import shown


@dataclass(frozen=True, slots=True)
class _Shared:
    """A file that several services have in the same way."""

    path: str
    services: tuple[str, ...]


def write(file: Path, roster: Roster, members: Iterable[Member], rows: Sequence[Row]) -> None:
    """Write the page to `file`, whole or not at all. Raises CannotWriteReport."""
    text = page(
        roster, rows, {member.name: history(member) for member in members}, datetime.now(UTC)
    )
    try:
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix=".report-", delete=False
        ) as draft:
            try:
                draft.write(text)
                draft.close()
                # What is temporary is its owner's alone; a report is as readable as any new file beside it.
                Path(draft.name).chmod(0o644)
                Path(draft.name).replace(file)
            except BaseException:
                Path(draft.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CannotWriteReport(file, error) from error


def page(
    roster: Roster, rows: Sequence[Row], histories: Mapping[str, Sequence[Release]], now: datetime
) -> str:
    """The page's text; `histories` are the versions that each service had."""
    environment = Environment(
        loader=PackageLoader("dockyard", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    script = _part("report.js")
    states = Counter(row.state for row in rows)
    return environment.get_template("report.html.jinja").render(
        name=roster.origin.parent.name if roster.origin.is_file() else roster.origin.name,
        origin=str(roster.origin),
        made=now,
        # What somebody has to look at comes first.
        rows=sorted(rows, key=lambda row: (not row.needs_somebody, row.is_well)),
        states=[(state, states[state]) for state in State if states[state]],
        drifted=sum(1 for row in rows if row.drift),
        groups=sorted({group for row in rows for group in row.groups}),
        drift=_shared((row.name, path) for row in rows for path, _ in row.drift),
        conflicts=_shared((row.name, path) for row in rows for path, _ in row.conflicts),
        timeline=_timeline(histories, now),
        style=Markup(_part("report.css")),  # noqa: S704 - this package's own
        script=Markup(script),  # noqa: S704 - this package's own
        digest=b64encode(sha256(script.encode()).digest()).decode(),
    )


def _timeline(histories: Mapping[str, Sequence[Release]], now: datetime) -> Timeline | None:
    return timeline(
        [[(each.since, each.version) for each in releases] for releases in histories.values()], now
    )


def _shared(pairs: Iterable[tuple[str, str]]) -> list[_Shared]:
    """Files by how many services have them, most first."""
    services: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in pairs:
        services[path].append(name)
    found = [_Shared(path, tuple(names)) for path, names in services.items()]
    return sorted(found, key=lambda each: (-len(each.services), each.path))


def _part(name: str) -> str:
    return (Path(__file__).parents[1] / "pages" / name).read_text(encoding="utf-8")


def _printable(value: object) -> object:
    """Names as they are shown elsewhere too; the page's own parts span lines and are marked as safe."""
    return shown(value) if type(value) is str else value

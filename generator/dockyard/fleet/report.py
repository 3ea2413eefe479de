"""How a fleet stands, as one self-contained page for a browser. Decides nothing.

Anybody may have written the names, paths and messages in a service's repository. So the page's
template escapes all of them, and the page allows no script but its own.
"""

from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dockyard.errors import DockyardError, one_line
from dockyard.fleet.roster import Member, Roster
from dockyard.fleet.status import Release, Row, State, history
from dockyard.fleet.timeline import Timeline, timeline
from dockyard.programs.scratch import write_whole
from dockyard.programs.tree import shown


class CannotWriteReport(DockyardError):
    """The page cannot be put where it was asked for."""

    def __init__(self, file: Path, error: OSError, option: str) -> None:
        super().__init__(
            f"cannot write the report to {file}: {one_line(error.strerror or str(error))}. "
            f"Mend that, or choose another file with {option}."
        )


@dataclass(frozen=True, slots=True)
class _Shared:
    """A file with drift or a conflict in several services."""

    path: str
    services: tuple[str, ...]


def write(file: Path, roster: Roster, members: Iterable[Member], rows: Sequence[Row]) -> None:
    """Write the page to `file`, whole or not at all. Raises CannotWriteReport."""
    text = page(
        roster, rows, {member.name: history(member) for member in members}, datetime.now(UTC)
    )
    written(file, text, "--html")


def written(file: Path, text: str, option: str) -> None:
    """Write `text` to `file`, whole or not at all. Raises CannotWriteReport."""
    try:
        write_whole(file, text.encode())
    except OSError as error:
        raise CannotWriteReport(file, error, option) from error


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
        # First the services that need a person.
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
    """A name as it is shown everywhere. The page's own parts span lines and are marked as safe."""
    return shown(value) if type(value) is str else value

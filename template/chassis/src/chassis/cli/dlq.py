"""`dlq`: look at a service's dead letters, export, replay and discard them."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from chassis.cli import export, letters
from chassis.cli.duration import duration
from chassis.cli.output import say
from chassis.cli.session import Session, UsageError
from chassis.reasons import REASONS

if TYPE_CHECKING:
    from chassis.bus import Bus, DeadLetter
    from chassis.deadletters import Filter

Result = TypeVar("Result")
Act = Callable[["Bus", str, "Filter"], Awaitable[Result]]

TypeOption = Annotated[str | None, typer.Option("--type", help="Only this event type.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only this reason, such as attempts_exhausted.")
]
OlderOption = Annotated[
    str | None,
    typer.Option("--older-than", help="Only entries that last failed before: 90s, 15m, 2h, 7d."),
]
NewerOption = Annotated[
    str | None,
    typer.Option("--newer-than", help="Only entries that last failed since: 90s, 15m, …"),
]
EveryOption = Annotated[bool, typer.Option("--all", help="Every entry.")]
IdArgument = Annotated[
    str, typer.Argument(metavar="[ID]", help="The first characters of an entry's id.")
]


def app(session: Session) -> typer.Typer:
    """The commands under `dlq`."""
    cli = typer.Typer(
        help="Dead letters: list, show, export, replay, discard.", no_args_is_help=True
    )
    cli.command("list")(_list(session))
    cli.command("show")(_show(session))
    cli.command("export")(_export(session))
    cli.command("replay")(_replay(session))
    cli.command("discard")(_discard(session))
    return cli


def _list(session: Session) -> Callable[..., None]:
    def command(
        *,
        type_: TypeOption = None,
        reason: ReasonOption = None,
        older_than: OlderOption = None,
        newer_than: NewerOption = None,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    ) -> None:
        """List the dead letters, oldest first."""
        session.settings()  # a mistake in them is told before anything heavy is imported
        which = _filter("", type_, reason, older_than, newer_than)
        if as_json:
            _visit(session, which, lambda letter: say(json.dumps(letters.summary(letter))))
            return
        found: list[dict[str, object]] = []
        _visit(session, which, lambda letter: found.append(letters.summary(letter)))
        letters.print_table(found)

    return command


def _show(session: Session) -> Callable[..., None]:
    def command(
        id_: Annotated[
            str, typer.Argument(metavar="ID", help="The first characters of an entry's id.")
        ],
    ) -> None:
        """Show one entry: why it died, and the event, decoded if its contract is known."""
        from chassis import deadletters

        session.load_contracts()
        found = _sweep(session, deadletters.select, _filter(id_))
        if not found:
            raise UsageError(
                f"no dead letter's id begins with {id_!r}: see `{session.name} dlq list`"
            )
        if len(found) > 1:
            raise UsageError(f"{len(found)} ids begin with {id_!r}: give more of it")
        say(letters.described(found[0]))

    return command


def _export(session: Session) -> Callable[..., None]:
    def command(
        *,
        file: Annotated[
            str, typer.Argument(metavar="FILE", help="Where to; - is standard output.")
        ],
        id_: IdArgument = "",
        type_: TypeOption = None,
        reason: ReasonOption = None,
        older_than: OlderOption = None,
        newer_than: NewerOption = None,
        force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    ) -> None:
        """Copy whole entries to a file, one JSON object a line. Removes nothing."""
        which = _filter(id_, type_, reason, older_than, newer_than)
        session.load_contracts()
        if file == "-":
            _visit(session, which, lambda letter: say(export.line(letter)))
            return
        with export.replacing(Path(file), force=force) as write:
            count = _visit(session, which, lambda letter: write(export.line(letter)))
        say(f"exported {count}")

    return command


def _replay(session: Session) -> Callable[..., None]:
    def command(
        *,
        id_: IdArgument = "",
        type_: TypeOption = None,
        reason: ReasonOption = None,
        older_than: OlderOption = None,
        newer_than: NewerOption = None,
        every: EveryOption = False,
        rate: Annotated[
            float | None, typer.Option(min=0.01, help="Entries a second, at most.")
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only say what would be replayed.")
        ] = False,
    ) -> None:
        """Put entries into this service's own queue again. What was handled is ignored."""
        which = _chosen(
            session, "replay", _filter(id_, type_, reason, older_than, newer_than), every=every
        )
        from chassis import deadletters

        if dry_run:
            say(f"would replay {_visit(session, which, _ignore)}")
        else:
            act = partial(deadletters.replay, per_second=rate)
            say(f"replayed {_sweep(session, act, which)}")

    return command


def _discard(session: Session) -> Callable[..., None]:
    def command(
        *,
        id_: IdArgument = "",
        type_: TypeOption = None,
        reason: ReasonOption = None,
        older_than: OlderOption = None,
        newer_than: NewerOption = None,
        every: EveryOption = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ) -> None:
        """Remove entries for good."""
        which = _chosen(
            session, "discard", _filter(id_, type_, reason, older_than, newer_than), every=every
        )
        from chassis import deadletters

        if not yes:
            count = _visit(session, which, _ignore)
            typer.confirm(f"Discard {count} dead letters for good?", abort=True)
        say(f"discarded {_sweep(session, deadletters.discard, which)}")

    return command


def _visit(session: Session, which: "Filter", see: "Callable[[DeadLetter], object]") -> int:
    """Call `see` with each letter that fits; returns how many. Keeps none: they may be large."""
    from chassis import deadletters

    return _sweep(session, partial(deadletters.visit, see=see), which)


def _sweep(session: Session, act: Act[Result], which: "Filter") -> Result:
    results: list[Result] = []

    async def sweep() -> None:
        async with session.bus() as bus:
            results.append(await act(bus, session.name, which))

    session.run(sweep())
    return results[0]


def _ignore(_: "DeadLetter") -> None:
    """For a command that only counts."""


def _chosen(session: Session, verb: str, which: "Filter", *, every: bool) -> "Filter":
    """`which`, if it chooses anything: an empty command must not touch every entry."""
    if which == _filter("") and not every:
        raise UsageError(f"say which: `{session.name} dlq {verb} ID`, --type, --reason, … or --all")
    return which


def _filter(
    id_: str,
    type_: str | None = None,
    reason: str | None = None,
    older_than: str | None = None,
    newer_than: str | None = None,
) -> "Filter":
    from chassis.deadletters import Filter

    if reason is not None and reason not in REASONS:
        raise UsageError(f"{reason!r} is not a reason: it is one of {', '.join(REASONS)}")
    return Filter(id_, type_, reason, duration(older_than), duration(newer_than))

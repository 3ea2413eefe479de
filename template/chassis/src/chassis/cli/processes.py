"""`processes`: find processes that are stuck, look at them, push them on, give them up."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, cast

import typer

from chassis.cli import output
from chassis.cli.duration import duration
from chassis.cli.output import say
from chassis.cli.session import Session, UsageError

if TYPE_CHECKING:
    from chassis.processes.store import ProcessStore, Record, Status

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="What the process is found by.")]
ProcessOption = Annotated[
    str | None, typer.Option("--process", help="Which process, if several have the key.")
]
COLUMNS = ("process", "key", "status", "idle_since", "started", "last_event")


def app(session: Session) -> typer.Typer:
    """The commands under `processes`."""
    cli = typer.Typer(help="Processes (sagas): list, show, poke, abandon.", no_args_is_help=True)
    cli.command("list")(_list(session))
    cli.command("show")(_show(session))
    cli.command("poke")(_poke(session))
    cli.command("abandon")(_abandon(session))
    return cli


def _list(session: Session) -> Callable[..., None]:
    def command(
        *,
        process: Annotated[str | None, typer.Option("--process", help="Only this one.")] = None,
        status: Annotated[
            str, typer.Option("--status", help="active, completed, abandoned or any.")
        ] = "active",
        older_than: Annotated[
            str | None,
            typer.Option("--older-than", help="Only those idle for longer: 90s, 15m, 2h, 7d."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    ) -> None:
        """List processes, the longest idle first. Idle begins when its last wake-up is due."""
        from chassis.processes import operations
        from chassis.processes.store import STATUSES

        if status not in {*STATUSES, "any"}:
            raise UsageError(f"{status!r} is not a status: it is one of {', '.join(STATUSES)}, any")
        wanted = None if status == "any" else cast("Status", status)
        which = operations.Filter(process, wanted, duration(older_than))
        found: list[operations.Found] = []

        async def look(store: "ProcessStore") -> None:
            found.append(await operations.select(store, which, datetime.now(UTC)))

        _with_store(session, look)
        rows = [summary(record) for record in found[0].records]
        if as_json:
            for row in rows:
                say(json.dumps(row))
        else:
            cells = [[str(row[name]) for name in COLUMNS] for row in rows]
            output.table(cells, [name.replace("_", " ") for name in COLUMNS], in_one_piece=("key",))
            say(f"{len(rows)} process{'' if len(rows) == 1 else 'es'}")
        if found[0].unreadable:
            say(f"not readable: {', '.join(found[0].unreadable)}", err=True)

    return command


def _show(session: Session) -> Callable[..., None]:
    def command(
        *,
        key: KeyArgument,
        process: ProcessOption = None,
        state: Annotated[
            bool, typer.Option("--state", help="Show the state too: it may be personal.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    ) -> None:
        """Show one process: its steps so far, what it waits for, and if asked its state."""
        fields: dict[str, object] = {}

        async def look(store: "ProcessStore") -> None:
            record = await _one(session, store, process, key)
            fields.update(summary(record) | _details(record))
            if state:
                fields["state"] = _state(session, record)

        _with_store(session, look)
        if as_json:
            say(json.dumps(fields))
            return
        for name, value in fields.items():
            shown = json.dumps(value, indent=2) if isinstance(value, dict | list) else value
            say(f"{name:<14}{shown}")

    return command


def _poke(session: Session) -> Callable[..., None]:
    def command(*, key: KeyArgument, process: ProcessOption = None) -> None:
        """Publish again what a process has not published, and its overdue wake-ups.

        The events keep their ids: what has arrived already is ignored.
        """
        from chassis.processes import operations

        said: list[str] = []

        async def poke(store: "ProcessStore") -> None:
            record = await _one(session, store, process, key)
            async with session.bus() as bus:
                published = await operations.poke(
                    store, record.address, session.name, bus.publish, datetime.now(UTC)
                )
            state = "waits" if record.status == "active" else f"is {record.status}"
            said.append(
                f"published {published}" if published else f"nothing to publish: it {state}"
            )

        _with_store(session, poke)
        say(said[0])

    return command


def _abandon(session: Session) -> Callable[..., None]:
    def command(
        *,
        key: KeyArgument,
        reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.")],
        process: ProcessOption = None,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ) -> None:
        """End a process by hand: events for it do nothing from now on. Nothing is undone."""
        from chassis.processes import operations

        if not reason.strip():
            raise UsageError("--reason must say something")

        async def abandon(store: "ProcessStore") -> None:
            record = await _one(session, store, process, key)
            at = record.address
            if not yes:
                typer.confirm(f"Abandon process {at.process} {at.key} for good?", abort=True)
            await operations.abandon(store, at, reason, datetime.now(UTC))

        _with_store(session, abandon)
        say("abandoned 1")

    return command


def summary(record: "Record") -> dict[str, object]:
    """What is known of a process, without its state."""
    return {
        "process": record.address.process,
        "key": record.address.key,
        "status": record.status,
        "idle_since": record.idle_since.isoformat(timespec="seconds"),
        "started": record.started.isoformat(timespec="seconds"),
        "last_event": record.last_event,
        "reason": record.reason,
    }


def _details(record: "Record") -> dict[str, object]:
    return {
        "changed": record.changed.isoformat(timespec="seconds"),
        "state_type": record.state_type,
        "state_bytes": len(record.state),
        "wakes": {name: wake.due.isoformat() for name, wake in record.wakes.items()},
        "unpublished": len(record.outgoing),
    }


def _state(session: Session, record: "Record") -> object:
    from chassis.contracts import event_types

    session.load_contracts()
    return json.loads(event_types.to_json(record.state_type, record.state))


async def _one(session: Session, store: "ProcessStore", process: str | None, key: str) -> "Record":
    from chassis.processes import operations

    names = [process] if process is not None else sorted(session.service.registry.processes)
    if not names:
        raise UsageError(f"{session.name} has no processes: see --process")
    found = await operations.find(store, names, key)
    if not found:
        raise UsageError(f"no process has the key {key!r}: see `{session.name} processes list`")
    if len(found) > 1:
        several = ", ".join(record.address.process for record in found)
        raise UsageError(f"{several} have the key {key!r}: say which with --process")
    return found[0]


def _with_store(session: Session, act: "Callable[[ProcessStore], Awaitable[None]]") -> None:
    async def open_and_act() -> None:
        async with session.processes() as store:
            await act(store)

    session.run(open_and_act())

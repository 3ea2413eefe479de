"""`publish` and `tail`: events in and out from the command line."""

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from chassis.bus import Delivery, Subscription
from chassis.cli.session import Session
from chassis.contracts import event_types
from chassis.contracts.envelope import EnvelopeError, format_time
from chassis.publishing.publisher import check_size

IN_FLIGHT = 100


def publish(session: Session) -> Callable[..., None]:
    def command(
        type_: Annotated[
            str,
            typer.Argument(metavar="TYPE", help="Event type; its last part is enough if unique."),
        ],
        json: Annotated[
            str, typer.Option("--json", help="The body in protobuf's JSON mapping; - reads stdin.")
        ] = "{}",
        id_: Annotated[
            str | None, typer.Option("--id", help="Event id; random by default.")
        ] = None,
        count: Annotated[
            int, typer.Option(min=1, help="How many; with --id the ids are ID-1, ID-2, …")
        ] = 1,
    ) -> None:
        """Publish events, confirmed by the broker."""
        session.run(_publish(session, type_, sys.stdin.read() if json == "-" else json, id_, count))

    return command


def tail(session: Session) -> Callable[..., None]:
    def command(
        types: Annotated[
            list[str] | None, typer.Argument(metavar="[TYPE]...", help="Only these types.")
        ] = None,
        limit: Annotated[
            int | None, typer.Option("--limit", "-n", min=1, help="Stop after so many events.")
        ] = None,
    ) -> None:
        """Show events as they are published, without taking them from anybody. Ends with Ctrl-C."""
        try:
            session.run(_tail(session, types or [], limit))
        except KeyboardInterrupt:
            raise typer.Exit(0) from None

    return command


async def _publish(session: Session, type_: str, json: str, id_: str | None, count: int) -> None:
    message_type = session.resolve_type(type_)
    message = event_types.from_json(event_types.event_type(message_type), json)
    check_size(
        event_types.event_type(message), message.ByteSize(), session.settings().max_body_bytes
    )
    source = f"{session.service.name}-cli"
    limit = asyncio.Semaphore(IN_FLIGHT)
    async with session.bus() as bus:

        async def one(number: int) -> str:
            name = id_ if id_ is None or count == 1 else f"{id_}-{number}"
            event = event_types.to_event(message, source=source, id_=name)
            async with limit:
                await bus.publish(event)
            return event.envelope.id

        ids = await asyncio.gather(*(one(number) for number in range(1, count + 1)))
    what = event_types.event_type(message)
    typer.echo(f"published {what} {ids[0]}" if count == 1 else f"published {count} of {what}")


async def _tail(session: Session, names: list[str], limit: int | None) -> None:
    types = frozenset(event_types.event_type(session.resolve_type(name)) for name in names) or None
    session.load_contracts()
    seen = 0
    enough = asyncio.Event()

    async def show(delivery: Delivery) -> None:
        nonlocal seen
        delivery.done()
        if enough.is_set():
            return
        seen += 1
        typer.echo(_described(delivery))
        if seen == limit:
            enough.set()

    async with session.bus(Subscription(session.service.name, types, mode="every_replica"), show):
        typer.echo("waiting for events, Ctrl-C ends", err=True)
        await enough.wait()


def _described(delivery: Delivery) -> str:
    try:
        envelope = delivery.envelope()
    except EnvelopeError as error:
        return f"not a CloudEvent ({error}), {len(delivery.body)} bytes"
    time = "" if envelope.time is None else f"{format_time(envelope.time)}  "
    try:
        body = event_types.to_json(envelope.type, delivery.body)
    except event_types.ContractError as error:
        body = f"{len(delivery.body)} bytes ({error})"
    return f"{time}{envelope.type}  {envelope.id}  from {envelope.source}\n{body}"

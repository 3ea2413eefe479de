"""`publish` and `tail`: events in and out from the command line."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from chassis.cli.output import say
from chassis.cli.session import Session
from chassis.telemetry.text import harmless_line

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from chassis.bus import Delivery
    from chassis.settings import Settings

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
        settings = session.settings()
        message = _message(session, type_, sys.stdin.read() if json == "-" else json)
        session.run(_publish(session, settings, message, id_, count))

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
        """Show events as they are published. Takes them from nobody; Ctrl-C ends."""
        session.settings()  # a mistake in them is told before anything heavy is imported
        try:
            session.run(_tail(session, types or [], limit))
        except KeyboardInterrupt:
            raise typer.Exit(0) from None

    return command


def _message(session: Session, type_: str, json: str) -> "Message":
    """The event to publish. Raises ContractError."""
    from chassis.contracts import event_types

    name = event_types.event_type(session.resolve_type(type_))
    try:
        return event_types.from_json(name, json)
    except event_types.ContractError:  # an Any in it may hold a type of another package
        session.load_contracts()
        return event_types.from_json(name, json)


async def _publish(
    session: Session, settings: "Settings", message: "Message", id_: str | None, count: int
) -> None:
    import asyncio

    from chassis.contracts import event_types
    from chassis.publishing.size import check_size

    type_ = event_types.event_type(message)
    check_size(type_, message.ByteSize(), settings.max_body_bytes)
    limit = asyncio.Semaphore(IN_FLIGHT)
    async with session.bus() as bus:

        async def one(number: int) -> str:
            name = id_ if id_ is None or count == 1 else f"{id_}-{number}"
            event = event_types.to_event(message, source=f"{session.name}-cli", id_=name)
            async with limit:
                await bus.publish(event)
            return event.envelope.id

        ids = await asyncio.gather(*(one(number) for number in range(1, count + 1)))
    say(f"published {type_} {ids[0]}" if count == 1 else f"published {count} of {type_}")


async def _tail(session: Session, names: list[str], limit: int | None) -> None:
    import asyncio

    from chassis.bus import Subscription
    from chassis.contracts import event_types

    session.load_contracts()
    types = frozenset(event_types.event_type(session.resolve_type(name)) for name in names) or None
    seen = 0
    enough = asyncio.Event()

    async def show(delivery: "Delivery") -> None:
        nonlocal seen
        delivery.done()
        if enough.is_set():
            return
        seen += 1
        say(_described(delivery))
        if seen == limit:
            enough.set()

    subscription = Subscription(session.name, types, mode="every_replica")
    async with session.bus(subscription, show):
        say("waiting for events, Ctrl-C ends", err=True)
        await enough.wait()


def _described(delivery: "Delivery") -> str:
    from chassis.contracts import event_types
    from chassis.contracts.envelope import EnvelopeError, format_time

    try:
        envelope = delivery.envelope()
    except EnvelopeError as error:
        return f"not a CloudEvent ({harmless_line(str(error))}), {len(delivery.body)} bytes"
    time = "" if envelope.time is None else f"{format_time(envelope.time)}  "
    try:
        body = event_types.to_json(envelope.type, delivery.body, json=envelope.json)
    except event_types.ContractError as error:
        body = f"{len(delivery.body)} bytes ({harmless_line(str(error))})"
    about = harmless_line(f"{envelope.type}  {envelope.id}  from {envelope.source}")
    return f"{time}{about}\n{body}"

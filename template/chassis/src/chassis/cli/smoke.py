"""`smoke`: the service on real servers, from its start to its drain, before it meets production."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from chassis import settings as settings_module
from chassis.cli.output import say
from chassis.cli.session import Session, UsageError
from chassis.settings import Settings
from chassis.urls import each, masked

if TYPE_CHECKING:
    from google.protobuf.message import Message

_LOCAL = {"localhost", "127.0.0.1", "::1"}


def command(session: Session) -> Callable[..., None]:
    def smoke(
        events: Annotated[
            list[Path] | None,
            typer.Argument(
                metavar="[FILE]...", help='Events to send: JSON files with "type" and "event".'
            ),
        ] = None,
        seconds: Annotated[float, typer.Option(min=1, help="How long each step may take.")] = 60.0,
        yes: Annotated[
            bool, typer.Option("--yes", help="Send events also to a broker that is not local.")
        ] = False,
    ) -> None:
        """Try a replica on real servers: ready, events handled, drained, exit code 0."""
        settings = settings_module.load()
        _refuse_what_others_would_notice(settings, bool(events) and not yes)
        session.load_contracts()
        messages = [_event(path) for path in events or []]
        session.run(_smoke(session, settings, messages, seconds))

    return smoke


async def _smoke(
    session: Session, settings: Settings, messages: "Sequence[Message]", seconds: float
) -> None:
    from chassis.contracts import event_types
    from chassis.tools.smoke import replica

    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(
            replica([sys.executable, sys.argv[0], "run"], seconds)
        )
        await one.ready()
        say("ready")
        if messages:
            bus = await stack.enter_async_context(session.bus())
            for message in messages:
                event = event_types.to_event(
                    message, source=f"{session.name}-cli", id_=f"smoke-{token_hex(8)}"
                )
                await bus.publish(event)
        for type_, count in Counter(map(event_types.event_type, messages)).items():
            await one.handles(type_, count)
            say(f"handled {count} of {type_}")
        await one.drains(settings.drain_seconds)
        say("drained")


def _refuse_what_others_would_notice(settings: Settings, sends: bool) -> None:
    schemes = {urlsplit(url).scheme for url in (settings.bus, settings.inbox)}
    if "memory" in schemes:
        raise UsageError(
            "memory:// lives within one process, smoke needs two: set a real broker and store"
        )
    hosts = {urlsplit(url).hostname for url in each(settings.bus)}
    if sends and not hosts <= _LOCAL:
        raise UsageError(
            f"{masked(settings.bus)} is not on this machine, and every subscriber there would get "
            "the events: use a broker of your own, or add --yes"
        )


def _event(path: Path) -> "Message":
    from chassis.contracts import event_types

    try:
        entry = json.loads(path.read_text("utf-8"))
        type_, body = str(entry["type"]), json.dumps(entry["event"])
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f'{path} is not an event: it must be JSON with "type" and "event" ({error!r})'
        ) from error
    return event_types.from_json(type_, body)

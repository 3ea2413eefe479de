"""`run`, `dev`, `relay`, `migrate` and `config`: the commands around a running service."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from chassis import settings as settings_module
from chassis.cli.output import say
from chassis.cli.session import Session
from chassis.settings import Settings


def run(session: Session) -> Callable[..., None]:
    def command() -> None:
        """Consume events until SIGTERM, then drain and exit 0. CHASSIS_* variables set it up."""
        settings = _with_logs(session)
        from chassis.replica import process

        serving = process.run(session.service, settings)
        # Modules and handlers live as long as the process: no collection looks at them again.
        gc.collect()
        gc.freeze()
        session.run(serving)

    return command


def dev(session: Session) -> Callable[..., None]:
    def command(
        data: Annotated[
            Path | None,
            typer.Option(help="Folder for servers of its own, which no other service shares."),
        ] = None,
    ) -> None:
        """Run on the broker and store that the service chose, as in production.

        The services of an organisation share them on this machine. CHASSIS_BUS_URL and
        CHASSIS_INBOX_URL come first.
        """
        settings = _with_logs(session)
        from chassis.tools.dev import develop

        session.run(develop(session.service, settings, data))

    return command


def relay(session: Session) -> Callable[..., None]:
    def command() -> None:
        """Publish the outbox until SIGTERM, for replicas with CHASSIS_OUTBOX_RELAY=false."""
        settings = _with_logs(session)
        from chassis.replica import process

        session.run(process.relay(session.service, settings))

    return command


def migrate(session: Session) -> Callable[..., None]:
    def command() -> None:
        """Create and change the chassis' tables in the database. Run it as often as you like."""
        session.run(_migrate(settings_module.load()))

    return command


def config(session: Session) -> Callable[..., None]:
    def command(
        handlers: Annotated[
            bool, typer.Option("--handlers", help="Show what holds for each handler instead.")
        ] = False,
    ) -> None:
        """Show the effective settings, secrets masked. `*` marks a value other than the default."""
        settings = settings_module.load()
        if handlers:
            _show_handlers(session, settings)
            return
        for variable, value, is_default, meaning in settings_module.effective(settings):
            say(f"{' ' if is_default else '*'} {variable}={value}\n      {meaning}")

    return command


def _show_handlers(session: Session, settings: Settings) -> None:
    """A handler a line; `*` marks a policy of its own."""
    from chassis.contracts.event_types import event_type
    from chassis.replica.policies import holding

    registry = session.service.registry
    for message in registry.messages:
        for handler in registry.handlers_of(message):
            held = holding(handler, settings)
            limits = " ".join(f"{name}={bound:g}" for name, bound in held.limits().items())
            mark = "*" if held.own else " "
            say(f"{mark} {handler.name} of {event_type(message)}\n      {limits}")


def _with_logs(session: Session) -> Settings:
    """The environment's settings, with the process' logging set up by them."""
    settings = settings_module.load()
    from chassis.telemetry import logs

    logs.configure(settings.log_format, settings.log_level, session.name)
    return settings


async def _migrate(settings: Settings) -> None:
    from chassis import adapters
    from chassis.inbox import TransactionalInbox

    inbox = adapters.open_inbox(settings)
    if not isinstance(inbox, TransactionalInbox):
        say("nothing to migrate: this inbox has no tables")
        return
    try:
        steps = await inbox.migrate()
    finally:
        await inbox.close()
    for step in steps:
        say(f"applied {step}")
    say("the tables are up to date")

"""`run`, `dev`, `relay` and `migrate`: the commands that a deployment runs, and the one for a desk."""

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
        """Consume events until SIGTERM, then drain and exit 0. Configured by CHASSIS_* variables."""
        settings = _with_logs(session)
        from chassis.replica import process

        session.run(process.run(session.service, settings))

    return command


def dev(session: Session) -> Callable[..., None]:
    def command(
        data: Annotated[Path, typer.Option(help="Folder for the embedded broker's data.")] = Path(
            ".dockyard"
        ),
    ) -> None:
        """Run with an embedded NATS when CHASSIS_BUS_URL is not set: nothing else to install."""
        settings = _with_logs(session)
        from chassis.tools.dev import develop

        session.run(develop(session.service, settings, data))

    return command


def relay(session: Session) -> Callable[..., None]:
    def command() -> None:
        """Publish the outbox of replicas with CHASSIS_OUTBOX_RELAY=false, until SIGTERM."""
        settings = _with_logs(session)
        from chassis.replica import process

        session.run(process.relay(session.service, settings))

    return command


def migrate(session: Session) -> Callable[..., None]:
    def command() -> None:
        """Create and change the chassis' tables in the inbox's database. Run it as often as you like."""
        session.run(_migrate(settings_module.load()))

    return command


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

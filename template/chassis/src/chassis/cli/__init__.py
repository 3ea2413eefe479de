"""The command of a service: run, dev, relay, migrate, publish, tail, smoke, load, dlq, config.

The only room that prints or asks.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from chassis import adapters
from chassis import settings as settings_module
from chassis.adapters import AdapterError
from chassis.bus import BusUnavailable
from chassis.cli import dlq, events, load
from chassis.cli.session import Session, UsageError
from chassis.cli.smoke import smoke
from chassis.contracts.event_types import ContractError
from chassis.inbox import InboxUnavailable, TransactionalInbox
from chassis.publishing.publisher import TooLarge
from chassis.replica import process
from chassis.replica.probes import PortTaken
from chassis.service import Service
from chassis.settings import Settings, SettingsError
from chassis.telemetry import logs
from chassis.telemetry.traces import TracesError
from chassis.tools.dev import develop
from chassis.tools.embedded import ServerMissingError
from chassis.tools.smoke import SmokeFailed

CANCEL_SECONDS = 2.0

_log = structlog.get_logger(__name__)

_MISTAKES = (
    AdapterError,
    BusUnavailable,
    ContractError,
    InboxUnavailable,
    PortTaken,
    ServerMissingError,
    SettingsError,
    SmokeFailed,
    TooLarge,
    TracesError,
    UsageError,
)


def main(service: Service) -> None:
    """Run the command line of `service`. A mistake of the user's is one line on stderr and exit code 2."""
    try:
        app(service)()
    except _MISTAKES as error:
        typer.echo(f"{service.name}: {error}", err=True)
        raise SystemExit(2) from error


def app(service: Service) -> typer.Typer:
    """The commands of `service`."""
    cli = typer.Typer(
        name=service.name,
        help=f"{service.name} {service.version}",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )

    @cli.command()
    def run() -> None:
        """Consume events until SIGTERM, then drain and exit 0. Configured by CHASSIS_* variables."""
        settings = settings_module.load()
        logs.configure(settings.log_format, settings.log_level, service.name)
        _run(process.run(service, settings))

    @cli.command()
    def dev(
        data: Annotated[Path, typer.Option(help="Folder for the embedded broker's data.")] = Path(
            ".dockyard"
        ),
    ) -> None:
        """Run with an embedded NATS when CHASSIS_BUS_URL is not set: nothing else to install."""
        settings = settings_module.load()
        logs.configure(settings.log_format, settings.log_level, service.name)
        _run(develop(service, settings, data))

    @cli.command()
    def relay() -> None:
        """Publish the outbox of the other replicas until SIGTERM: those with CHASSIS_OUTBOX_RELAY=false."""
        settings = settings_module.load()
        logs.configure(settings.log_format, settings.log_level, service.name)
        _run(process.relay(service, settings))

    @cli.command()
    def migrate() -> None:
        """Create and change the chassis' tables in the inbox's database; any number of times, any number at once."""
        _run(_migrate(settings_module.load()))

    @cli.command()
    def config() -> None:
        """The effective settings, secrets masked; `*` marks those that are not the default."""
        for variable, value, is_default, meaning in settings_module.effective(
            settings_module.load()
        ):
            typer.echo(f"{' ' if is_default else '*'} {variable}={value}\n      {meaning}")

    session = Session(service, _run)
    cli.command("publish")(events.publish(session))
    cli.command("tail")(events.tail(session))
    cli.command("smoke")(smoke(session))
    cli.command("load")(load.command(session))
    cli.add_typer(dlq.app(session), name="dlq")
    return cli


async def _migrate(settings: Settings) -> None:
    inbox = adapters.open_inbox(settings)
    if not isinstance(inbox, TransactionalInbox):
        typer.echo("nothing to migrate: this inbox has no tables")
        return
    try:
        steps = await inbox.migrate()
    finally:
        await inbox.close()
    for step in steps:
        typer.echo(f"applied {step}")
    typer.echo("the tables are up to date")


def _run(main_: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ModuleNotFoundError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main_)
        if left := runner.run(_cancel_the_rest()):  # the runner would wait for them without end
            _log.error("handlers that ignore their cancellation are left behind", count=left)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


async def _cancel_the_rest() -> int:
    """Cancel every other task; returns how many do not end by it."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    return len((await asyncio.wait(rest, timeout=CANCEL_SECONDS))[1]) if rest else 0

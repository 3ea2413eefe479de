"""The command of a service: run, dev, relay, migrate, publish, tail, smoke, load, dlq and others.

The only room that prints or asks. A command imports what it needs when it runs: `--help` and
`config` need no broker's client, no HTTP server and no handler.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from chassis.cli import dlq, events, light, load, processes, serving, smoke
from chassis.cli.output import say
from chassis.cli.session import Session

if TYPE_CHECKING:
    from chassis.service import Service

MISTAKES = {
    "chassis.adapters": ("AdapterError",),
    "chassis.bus": ("BusUnavailable",),
    "chassis.cli.session": ("UsageError",),
    "chassis.contracts.event_types": ("ContractError",),
    "chassis.inbox": ("InboxUnavailable",),
    "chassis.processes.operations": ("NotFound",),
    "chassis.processes.store": ("Conflict", "Unreadable"),
    "chassis.publishing.size": ("TooLarge",),
    "chassis.replica.probes": ("PortTaken",),
    "chassis.replica.resources": ("LifespanFailed",),
    "chassis.replica.web.server": ("WebFailed",),
    "chassis.settings": ("SettingsError",),
    "chassis.telemetry.traces": ("TracesError",),
    "chassis.tools.dev.server": ("ServerMissingError",),
    "chassis.tools.scrape": ("ScrapeError",),
    "chassis.tools.smoke": ("SmokeFailed",),
}
"""What a user can mend, by module: a module that nothing imported cannot have raised its own."""


def main(service: "Service | str", name: str = "") -> None:
    """Run the command line of `service`. A user's mistake is one line on stderr and exit code 2.

    `service` may be `module:attribute`, with the service's `name`: handlers are then imported only
    by the commands that need them.
    """
    session = Session(service, name)
    try:
        light.command(_app(session))()
    except _mistakes() as error:
        say(f"{session.name}: {error}", err=True)
        raise SystemExit(2) from error


def app(service: "Service") -> typer.Typer:
    """The commands of `service`."""
    return _app(Session(service))


def _mistakes() -> tuple[type[BaseException], ...]:
    return tuple(
        getattr(sys.modules[module], name)
        for module, names in MISTAKES.items()
        if module in sys.modules
        for name in names
    )


def _app(session: Session) -> typer.Typer:
    cli = typer.Typer(
        name=session.name,
        help=f"The commands of {session.name}.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        add_completion=False,
    )

    def show_version(asked: bool) -> None:
        if asked:
            say(f"{session.name} {session.version}")
            raise typer.Exit

    @cli.callback()
    def every_command(
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=show_version, is_eager=True, help="Show the version and exit."
            ),
        ] = False,
    ) -> None: ...

    cli.command("run")(serving.run(session))
    cli.command("dev")(serving.dev(session))
    cli.command("relay")(serving.relay(session))
    cli.command("migrate")(serving.migrate(session))
    cli.command("publish")(events.publish(session))
    cli.command("tail")(events.tail(session))
    cli.command("smoke")(smoke.command(session))
    cli.command("load")(load.command(session))
    cli.command("config")(serving.config(session))
    cli.add_typer(dlq.app(session), name="dlq")
    cli.add_typer(processes.app(session), name="processes")
    return cli

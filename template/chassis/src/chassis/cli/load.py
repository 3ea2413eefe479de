"""`load`: publish many events, and say what the broker and the service made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from chassis.cli.session import Session, UsageError

DEFAULT_COUNT = 1000
CLOSED, OPEN = 100, 10_000
FIRST_RATE, STEP_SECONDS = 100.0, 10.0


def command(session: Session) -> Callable[..., None]:
    def load(
        *,
        types: Annotated[
            list[str] | None,
            typer.Argument(metavar="[TYPE]...", help="In turn; all that the service handles."),
        ] = None,
        count: Annotated[
            int | None,
            typer.Option(
                "--count", "-n", min=1, help=f"How many; {DEFAULT_COUNT} without --seconds."
            ),
        ] = None,
        seconds: Annotated[float | None, typer.Option(min=0.1, help="How long.")] = None,
        rate: Annotated[
            float | None,
            typer.Option(min=0.01, help="How many a second; as many as the broker confirms."),
        ] = None,
        in_flight: Annotated[
            int | None,
            typer.Option(
                min=1,
                max=100_000,
                help=f"How many unconfirmed at a time; {CLOSED}, with --rate {OPEN}.",
            ),
        ] = None,
        body: Annotated[
            str | None,
            typer.Option(
                help="The body as protobuf's JSON, made up by default. {n} is the event's number."
            ),
        ] = None,
        metrics: Annotated[
            list[str] | None,
            typer.Option(
                help="A replica's /metrics, to follow the handling; once for each replica."
            ),
        ] = None,
        patience: Annotated[
            float, typer.Option(min=1, help="Seconds without a handled event until it gives up.")
        ] = 30,
        report: Annotated[
            Path | None,
            typer.Option(help="Write an HTML page with curves.", dir_okay=False, writable=True),
        ] = None,
        knee: Annotated[
            bool,
            typer.Option("--knee", help="Raise --rate in steps until --objective is missed."),
        ] = False,
        objective: Annotated[
            float,
            typer.Option(min=0.001, help="Seconds of age at the 99th percentile, for --knee."),
        ] = 0.1,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object instead of a table.")
        ] = False,
        yes: Annotated[
            bool, typer.Option("--yes", help="Also on a broker that is not on this machine.")
        ] = False,
    ) -> None:
        """Publish many events and measure. Exit code 1 if an event fails or gets lost."""
        try:
            from chassis.cli.loading import Order, load_and_measure
        except ModuleNotFoundError as error:
            raise UsageError(
                f"`load` needs the package {error.name!r}: add dockyard-chassis[dev] to the "
                "group `dev` in pyproject.toml, and run `uv sync`"
            ) from None
        from chassis.tools.load import Plan

        if knee:
            rate, seconds = rate or FIRST_RATE, seconds or STEP_SECONDS
        elif count is None and seconds is None:
            count = DEFAULT_COUNT
        plan = Plan(count, seconds, rate, in_flight or (CLOSED if rate is None else OPEN))
        order = Order(
            types or [],
            plan,
            body,
            metrics or [],
            patience,
            as_json,
            yes,
            report,
            knee,
            objective,
        )
        try:
            clean = load_and_measure(session, order)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        if not clean:
            raise typer.Exit(1)

    return load

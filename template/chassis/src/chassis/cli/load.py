"""`load`: publish many events, and say what the broker and the service made of them."""

from collections.abc import Callable
from typing import Annotated

import typer

from chassis.cli.session import Session

DEFAULT_COUNT = 1000


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
            int, typer.Option(min=1, max=10_000, help="How many unconfirmed at a time.")
        ] = 100,
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
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object instead of a table.")
        ] = False,
        yes: Annotated[
            bool, typer.Option("--yes", help="Also on a broker that is not on this machine.")
        ] = False,
    ) -> None:
        """Publish many events and measure. Exit code 1 if an event fails or gets lost."""
        from chassis.cli.loading import Order, load_and_measure
        from chassis.tools.load import Plan

        if count is None and seconds is None:
            count = DEFAULT_COUNT
        plan = Plan(count, seconds, rate, in_flight)
        order = Order(types or [], plan, body, metrics or [], patience, as_json, yes)
        try:
            clean = load_and_measure(session, order)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        if not clean:
            raise typer.Exit(1)

    return load

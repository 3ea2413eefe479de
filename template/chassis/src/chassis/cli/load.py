"""`load`: publish many events, and say what the broker and the service made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from chassis.cli.session import Session, UsageError

DEFAULT_COUNT = 1000
CLOSED, OPEN = 100, 10_000
"""How many events may be unconfirmed: as many as the broker confirms, and at a rate."""
FIRST_RATE, STEP_SECONDS = 100.0, 10.0

Types = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TYPE]...", help="In turn; all that the service handles."),
]
Count = Annotated[
    int | None,
    typer.Option("--count", "-n", min=1, help=f"How many; {DEFAULT_COUNT} without --seconds."),
]
Seconds = Annotated[
    float | None, typer.Option(min=0.1, help=f"How long; with --knee each step, {STEP_SECONDS:g}.")
]
Rate = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        help="How many a second, each at its moment; as many as the broker confirms. "
        f"With --knee the first rate, {FIRST_RATE:g}.",
    ),
]
InFlight = Annotated[
    int | None,
    typer.Option(
        min=1, max=100_000, help=f"How many unconfirmed at a time; {CLOSED}, with a rate {OPEN}."
    ),
]
Body = Annotated[
    str | None,
    typer.Option(
        help="The body as protobuf's JSON, made up by default. {n} is the event's number."
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(help="A replica's /metrics, to follow the handling; once for each replica."),
]
Patience = Annotated[
    float, typer.Option(min=1, help="Seconds without a handled event until it gives up.")
]
Report = Annotated[
    Path | None, typer.Option(help="Write an HTML page with curves.", dir_okay=False, writable=True)
]
Knee = Annotated[
    bool, typer.Option("--knee", help="Raise the rate in steps until the objective is missed.")
]
Objective = Annotated[
    float, typer.Option(min=0.001, help="Seconds of age at the 99th percentile that are kept.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", help="Also on a broker that is not on this machine.")]


def command(session: Session) -> Callable[..., None]:
    def load(
        *,
        types: Types = None,
        count: Count = None,
        seconds: Seconds = None,
        rate: Rate = None,
        in_flight: InFlight = None,
        body: Body = None,
        metrics: Metrics = None,
        patience: Patience = 30,
        report: Report = None,
        knee: Knee = False,
        objective: Objective = 0.1,
        as_json: AsJson = False,
        yes: Yes = False,
    ) -> None:
        """Publish many events and measure. Exit code 1 if an event fails or gets lost."""
        try:
            from chassis.cli.loading import Order, Output, load_and_measure
        except ModuleNotFoundError as error:
            raise UsageError(
                f"`load` needs the package {error.name!r}: add dockyard-chassis[dev] to the group "
                "`dev` in pyproject.toml, and run `uv sync`"
            ) from None
        from chassis.tools.load import Plan

        if report is not None and not report.parent.is_dir():
            raise UsageError(f"--report {report}: there is no folder {report.parent}")
        if knee and count is not None:
            raise UsageError("--knee measures each rate for --seconds: leave --count out")
        if knee:
            rate, seconds = rate or FIRST_RATE, seconds or STEP_SECONDS
        elif count is None and seconds is None:
            count = DEFAULT_COUNT
        plan = Plan(count, seconds, rate, in_flight or (CLOSED if rate is None else OPEN))
        order = Order(types or [], plan, body, metrics or [], patience, knee, objective)
        try:
            clean = load_and_measure(session, order, Output(as_json, report), yes=yes)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        if not clean:
            raise typer.Exit(1)

    return load

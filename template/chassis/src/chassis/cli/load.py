"""`load`: publish many events, and say what the broker and the service made of them."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random
from secrets import token_hex
from time import monotonic
from typing import Annotated
from urllib.parse import urlsplit

import aiohttp
import typer
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from chassis.cli.session import Session, UsageError
from chassis.contracts import event_types
from chassis.contracts.envelope import EncodedEvent
from chassis.contracts.examples import example
from chassis.publishing.publisher import check_size
from chassis.settings import Settings
from chassis.tools import load, scrape
from chassis.tools.load import Plan, Tally
from chassis.tools.scrape import Reading
from chassis.urls import masked

DEFAULT_COUNT = 1000
_SCRAPE_SECONDS = 0.2
_SCRAPE_TIMEOUT = aiohttp.ClientTimeout(10)

Event = Callable[[int], EncodedEvent]


@dataclass(frozen=True, slots=True)
class Watched:
    """The replicas whose metrics are at `urls`, the types to look for, and the seconds without progress to bear."""

    urls: Sequence[str]
    types: frozenset[str]
    patience: float


@dataclass(slots=True)
class Result:
    """What is known of a load so far. `handled` stays None when nobody was asked; `seconds` until the last one."""

    tally: Tally = field(default_factory=Tally)
    handled: Reading | None = None
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Every event confirmed and, as far as is known, handled to an end that is no dead letter."""
        settled = self.handled is None or (
            self.handled.settled >= self.tally.confirmed and not self.handled.dead
        )
        return settled and not self.tally.refused


def command(session: Session) -> Callable[..., None]:
    def load_(
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
                help="The body in protobuf's JSON mapping, {n} in it the event's number; made up by default."
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
        """Publish many events and measure. Exit code 1 when one was not confirmed, not handled or a dead letter."""
        settings = session.settings()
        classes = _classes(session, types or [])
        _require_local(settings.bus, classes, yes=yes)
        event = _events(session, classes, body, settings)
        plan = Plan(
            DEFAULT_COUNT if count is None and seconds is None else count, seconds, rate, in_flight
        )
        watched = Watched(metrics or [], frozenset(map(event_types.event_type, classes)), patience)
        result = Result()
        try:
            session.run(_run(session, plan, event, watched, result))
        except KeyboardInterrupt:
            _show(result, as_json=as_json)
            raise typer.Exit(130) from None
        _show(result, as_json=as_json)
        if not result.clean:
            raise typer.Exit(1)

    return load_


def _classes(session: Session, names: Sequence[str]) -> list[type[Message]]:
    if names:
        return [session.resolve_type(name) for name in names]
    session.load_contracts()
    if not session.service.registry.types:
        raise UsageError("the service handles no event: say which TYPE to publish")
    return [event_types.message_class(type_) for type_ in sorted(session.service.registry.types)]


def _require_local(url: str, classes: Sequence[type[Message]], *, yes: bool) -> None:
    if not yes and not all(_is_local(one) for one in url.split(",")):
        raise UsageError(
            f"{masked(url)} is not on this machine, and everybody there who takes "
            f"{', '.join(map(event_types.event_type, classes))} would get these events: say --yes if that is meant"
        )


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "memory" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _events(
    session: Session, classes: Sequence[type[Message]], body: str | None, settings: Settings
) -> Event:
    """Makes the event of a number. Raises ContractError and TooLarge when the first of a type cannot be published."""
    if body is not None and len(classes) != 1:
        raise UsageError(f"--body is for one TYPE, not for {len(classes)}: name it")
    random = Random()  # noqa: S311 - no secret is made of it
    run = token_hex(4)

    def message(number: int) -> Message:
        made = classes[number % len(classes)]
        if body is None:
            return example(made, random)
        return event_types.from_json(event_types.event_type(made), body.replace("{n}", str(number)))

    for number in range(len(classes)):
        first = message(number)
        check_size(event_types.event_type(first), first.ByteSize(), settings.max_body_bytes)
    source = f"{session.service.name}-load"
    return lambda number: event_types.to_event(
        message(number), source=source, id_=f"{run}-{number}"
    )


async def _run(
    session: Session, plan: Plan, event: Event, watched: Watched, result: Result
) -> None:
    async with session.bus() as broker, aiohttp.ClientSession(timeout=_SCRAPE_TIMEOUT) as http:
        before = await scrape.read(http, watched.urls, watched.types)
        publishing = asyncio.create_task(load.publish(broker, plan, event, result.tally))
        try:
            if watched.urls:
                await _follow(http, watched, before, publishing, result)
            await publishing
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])


async def _follow(
    http: aiohttp.ClientSession,
    watched: Watched,
    before: Reading,
    publishing: asyncio.Task[None],
    result: Result,
) -> None:
    """Keep `result` until all that was confirmed is handled, or nothing was for too long. Raises UsageError."""
    started = progressed = monotonic()
    settled = 0
    while True:
        all_published = publishing.done()
        result.handled = (await scrape.read(http, watched.urls, watched.types)).since(before)
        now = monotonic()
        if result.handled.settled > settled:
            result.seconds = now - started
        if result.handled.settled > settled or not all_published:
            progressed = now
        settled = result.handled.settled
        if all_published and (
            settled >= result.tally.confirmed or now - progressed > watched.patience
        ):
            return
        await asyncio.sleep(_SCRAPE_SECONDS)


def _show(result: Result, *, as_json: bool) -> None:
    values = _figures(result)
    if as_json:
        typer.echo(json.dumps(values))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in values.items():
        table.add_row(name.replace("_", " "), _shown(value))
    Console(highlight=False, markup=False, emoji=False).print(table)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


def _figures(result: Result) -> dict[str, object]:
    """The figures by name, those that nobody measured left out."""
    tally, handled = result.tally, result.handled
    figures: dict[str, object] = {
        "published": tally.confirmed,
        "not_confirmed": tally.refused,
        "last_refusal": tally.error or None,
        "seconds": tally.seconds,
        "published_per_second": tally.per_second,
        "confirm_seconds_p50": tally.confirms.quantile(0.5),
        "confirm_seconds_p99": tally.confirms.quantile(0.99),
    }
    if handled is not None:
        figures |= {
            "handled": handled.outcomes["done"],
            "duplicates": handled.outcomes["duplicate"],
            "retries": handled.outcomes["retried"],
            "dead_letters": handled.dead,
            "not_handled": max(0, tally.confirmed - handled.settled),
            "handled_per_second": handled.settled / result.seconds if handled.settled else 0.0,
            "age_seconds_p50": handled.age(0.5),
            "age_seconds_p99": handled.age(0.99),
        }
    return {name: value for name, value in figures.items() if value is not None}

"""What `load` does: publish many events, and say what the broker and the service made of them."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random
from secrets import token_hex
from time import monotonic
from urllib.parse import urlsplit

import aiohttp
from google.protobuf.message import Message

from chassis.cli.output import say, table
from chassis.cli.session import Session, UsageError
from chassis.contracts import event_types
from chassis.contracts.envelope import EncodedEvent
from chassis.contracts.examples import example
from chassis.publishing.size import check_size
from chassis.settings import Settings
from chassis.tools import load, scrape
from chassis.tools.load import Plan, Tally
from chassis.tools.scrape import Reading
from chassis.urls import each, masked

_SCRAPE_SECONDS = 0.2
_SCRAPE_TIMEOUT = aiohttp.ClientTimeout(10)

Event = Callable[[int], EncodedEvent]


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for; see the command's options."""

    types: Sequence[str]
    plan: Plan
    body: str | None
    metrics: Sequence[str]
    patience: float
    as_json: bool
    yes: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """Replicas with metrics at `urls`, the types to look for, and how long to wait for progress.

    `patience` is in seconds.
    """

    urls: Sequence[str]
    types: frozenset[str]
    patience: float


@dataclass(slots=True)
class Result:
    """A load so far. `handled` stays None without metrics; `seconds` ends with the last event."""

    tally: Tally = field(default_factory=Tally)
    handled: Reading | None = None
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Every event is confirmed and, as far as metrics tell, handled and no dead letter."""
        settled = self.handled is None or (
            self.handled.settled >= self.tally.confirmed and not self.handled.dead
        )
        return settled and not self.tally.refused


def load_and_measure(session: Session, order: Order) -> bool:
    """Publish and show the result; returns whether all went well.

    Raises UsageError, ContractError, TooLarge and ScrapeError.
    """
    settings = session.settings()
    classes = _classes(session, order.types)
    _require_local(settings.bus, classes, yes=order.yes)
    event = _events(session, classes, order.body, settings)
    types = frozenset(map(event_types.event_type, classes))
    watched = Watched(order.metrics, types, order.patience)
    result = Result()
    try:
        session.run(_run(session, order.plan, event, watched, result))
    finally:  # also after Ctrl-C
        if result.tally.seconds:
            _show(result, as_json=order.as_json)
    return result.clean


def _classes(session: Session, names: Sequence[str]) -> list[type[Message]]:
    if names:
        return [session.resolve_type(name) for name in names]
    session.load_contracts()
    if not session.service.registry.types:
        raise UsageError("the service handles no event: say which TYPE to publish")
    return [event_types.message_class(type_) for type_ in sorted(session.service.registry.types)]


def _require_local(url: str, classes: Sequence[type[Message]], *, yes: bool) -> None:
    if not yes and not all(_is_local(one) for one in each(url)):
        raise UsageError(
            f"{masked(url)} is not on this machine, and everybody there who takes "
            f"{', '.join(map(event_types.event_type, classes))} would get these events: "
            "add --yes to publish there"
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
    """Makes the event of a number. Raises ContractError, TooLarge if a first one fails."""
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
    source = f"{session.name}-load"
    return lambda number: event_types.to_event(
        message(number), source=source, id_=f"{run}-{number}"
    )


async def _run(
    session: Session,
    plan: Plan,
    event: Event,
    watched: Watched,
    result: Result,
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
    """Keep `result` until every confirmed event is handled, or none for too long."""
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
        say(json.dumps(values))
    else:
        table([(name.replace("_", " "), _shown(value)) for name, value in values.items()])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


def _figures(result: Result) -> dict[str, object]:
    """The figures by name, without the figures that nobody measured."""
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

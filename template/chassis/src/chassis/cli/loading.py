"""What `load` does: publish many events, and say what the broker and the service made of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from random import Random
from secrets import token_hex
from urllib.parse import urlsplit

from google.protobuf.message import Message

from chassis.cli.output import say, table
from chassis.cli.session import Session, UsageError
from chassis.contracts import event_types
from chassis.contracts.examples import example
from chassis.publishing.size import check_size
from chassis.settings import Settings
from chassis.tools.load import Event, Plan
from chassis.tools.load_report import About, knee, machine, report
from chassis.tools.measuring import Result, Watched, climb, measure
from chassis.urls import each, masked


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for; see the command's options."""

    types: Sequence[str]
    plan: Plan
    body: str | None
    metrics: Sequence[str]
    patience: float
    knee: bool
    objective: float
    """Seconds that the age, or else the confirmation, takes at the 99th percentile."""


@dataclass(frozen=True, slots=True)
class Output:
    """How the result is shown: as JSON or a table, and as a page in the file `report`."""

    as_json: bool
    report: Path | None


def load_and_measure(session: Session, order: Order, output: Output, *, yes: bool) -> bool:
    """Publish and show the result; returns whether all went well.

    `yes`: also on a broker that is not on this machine.

    Raises UsageError, ContractError, TooLarge and ScrapeError.
    """
    settings = session.settings()
    classes = _classes(session, order.types)
    _require_local(settings.bus, classes, yes=yes)
    event = _events(session, classes, order.body, settings)
    types = frozenset(map(event_types.event_type, classes))
    watched = Watched(order.metrics, types, order.patience)
    results = [Result(order.plan)]
    try:
        session.run(_run(session, order, event, watched, results))
    finally:  # also after Ctrl-C
        if results[0].tally.seconds:
            _tell(order, output, results)
            if output.report is not None:
                about = _about(session, order, masked(settings.bus), sorted(types))
                _write(output.report, about, results)
    if order.knee:
        return knee(results, order.objective) is not None
    return results[0].clean


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
    return lambda number, moment: event_types.to_event(
        message(number), source=source, id_=f"{run}-{number}", time=moment
    )


async def _run(
    session: Session, order: Order, event: Event, watched: Watched, results: list[Result]
) -> None:
    async with session.bus() as broker:
        if order.knee:
            await climb(broker, event, watched, results, objective=order.objective)
        else:
            await measure(broker, event, watched, results[0])


def _tell(order: Order, output: Output, results: Sequence[Result]) -> None:
    if output.as_json:
        values = _values(results, order.objective)
        say(json.dumps(values if order.knee else _figures(results[0], order.objective)))
    elif order.knee:
        _show_steps(results, order.objective)
    else:
        figures = _figures(results[0], order.objective)
        table([(name.replace("_", " "), _shown(value)) for name, value in figures.items()])
    if any(one.late for one in results):
        say("the generator was late: its machine is too slow for this rate", err=True)


def _values(results: Sequence[Result], objective: float) -> dict[str, object]:
    return {
        "knee_per_second": knee(results, objective),
        "steps": [_figures(one, objective) for one in results],
    }


def _about(session: Session, order: Order, broker: str, types: Sequence[str]) -> About:
    setting = {
        "types": ", ".join(types),
        "broker": broker,
        "replicas with metrics": str(len(order.metrics)),
        "schedule": "open model, every event has its moment"
        if order.plan.rate
        else "as many as the broker confirms",
        "in flight at most": str(order.plan.in_flight),
        **machine(),
    }
    return About(session.name, datetime.now(UTC), order.objective, setting)


def _write(path: Path, about: About, results: Sequence[Result]) -> None:
    raw = {
        **_values(results, about.objective),
        "confirm_histograms": [one.tally.confirms.encoded() for one in results],
    }
    path.write_text(report(about, results, raw), encoding="utf-8")
    say(f"report: {path}", err=True)


def _show_steps(results: Sequence[Result], objective: float) -> None:
    table(
        [
            [
                _shown(one.plan.rate),
                _shown(one.per_second),
                _shown(one.age(0.99)),
                _shown(one.tally.confirms.quantile(0.99)),
                "yes" if one.keeps(objective) else "no",
            ]
            for one in results
        ],
        headings=("rate", "handled/s", "age p99", "confirm p99", "kept"),
    )
    best = knee(results, objective)
    say(
        f"no rate was kept with a p99 of at most {objective:g} s"
        if best is None
        else f"the knee is {best:,.0f} events a second"
    )


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


def _figures(result: Result, objective: float) -> dict[str, object]:
    """The figures by name, without the figures that nobody measured."""
    tally, handled = result.tally, result.handled
    figures: dict[str, object] = {
        "published": tally.confirmed,
        "not_confirmed": tally.refused,
        "unknown": tally.started - tally.confirmed - tally.refused or None,
        "last_refusal": tally.error or None,
        "seconds": tally.seconds,
        "offered_per_second": result.plan.rate,
        "published_per_second": tally.per_second,
        "confirm_seconds_p50": tally.confirms.quantile(0.5),
        "confirm_seconds_p99": tally.confirms.quantile(0.99),
        "confirm_seconds_p99.9": tally.confirms.quantile(0.999),
        "confirm_seconds_max": tally.confirms.quantile(1.0),
    }
    if result.plan.rate is not None:
        figures["held_up"] = tally.held_up or None
        figures["generator_late_seconds_p99"] = tally.lateness.quantile(0.99)
        figures["kept"] = result.keeps(objective)
    if handled is not None:
        figures |= {
            "handled": handled.outcomes["done"],
            "duplicates": handled.outcomes["duplicate"],
            "retries": handled.outcomes["retried"],
            "dead_letters": handled.dead,
            "not_handled": max(0, tally.confirmed - handled.settled),
            "handled_per_second": result.per_second,
            "age_seconds_p50": handled.age(0.5),
            "age_seconds_p99": handled.age(0.99),
            "age_seconds_p99.9": handled.age(0.999),
            "cpu_microseconds_an_event": result.cpu_microseconds,
        }
    return {name: value for name, value in figures.items() if value is not None}

"""Writes the tables of docs/reference from the code. With --check it names stale pages and exits 1.

A page is prose with regions, from `<!-- begin NAME -->` to `<!-- end NAME -->`. The regions belong
to this program, and so does the list of settings in the chart's schema. Decides nothing.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from docs.tables.markdown import choices, commands, json_type, labels, table
from docs.tables.meanings import ATTRIBUTES, FAILURE, REASONS, StaleMeaningError, matched
from jinja2 import Template
from pamqp.commands import Basic

import chassis.cli
import dockyard.cli
from chassis.bus import Failure
from chassis.bus.history import History
from chassis.bus.nats.copies import letter_lines
from chassis.bus.rabbitmq.messages import Received, dead_properties, retry_properties
from chassis.calls.counts import counts_of
from chassis.contracts.envelope import AMQP_PREFIX, NATS_PREFIX, Envelope, to_headers
from chassis.reasons import REASONS as GIVEN
from chassis.replica.web.requests import REQUESTS
from chassis.service import Service
from chassis.settings import VARIABLES
from chassis.telemetry.leaders import LeaderMetrics
from chassis.telemetry.metrics import Metrics
from dockyard.rendering.questions import read_folder

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"
RECORDS = PAGES / "records.schema.json"
QUESTIONS = ROOT / "copier.yml"
CHASSIS = ROOT / "template" / "chassis" / "src" / "chassis"
CHART = ROOT / "template" / "deploy" / "chart"
SCHEMA = CHART / "values.schema.json"


def settings() -> Iterator[str]:
    yield from table(
        ("Variable", "Default", "Allowed", "Meaning"),
        (
            (
                f"`{variable.name}`",
                ""
                if variable.default is None
                else f"`{variable.default:g}`"
                if isinstance(variable.default, float)
                else f"`{str(variable.default).lower()}`"
                if isinstance(variable.default, bool)
                else f"`{variable.default}`",
                variable.kind.allowed,
                variable.meaning,
            )
            for variable in VARIABLES.values()
        ),
    )


def service_command() -> Iterator[str]:
    yield from commands(chassis.cli.app(Service("billing-svc", version="0")), "billing-svc")


def dockyard_command() -> Iterator[str]:
    yield from commands(dockyard.cli.app, "dockyard")


def metrics() -> Iterator[str]:
    counts_of("…")
    REQUESTS.labels("…", "…", "…")
    bound = Metrics("service", "version", "version")
    bound.for_type("…")
    bound.for_handler("…", "…")
    bound.show_limits("…", "…", {"…": 0})
    bound.for_batches("…")
    bound.processes.show("…", "active")
    LeaderMetrics(bound.registry).show("…", leading=False)
    for outcome in ("confirmed", "failed"):
        bound.published("…", outcome)
    yield from table(
        ("Metric", "Kind", "Labels", "Meaning"),
        (
            (
                f"`{family.name}{_SUFFIX.get(family.type, '')}`",
                family.type,
                labels(family.samples),
                family.documentation,
            )
            for family in bound.registry.collect()
            if family.name.startswith(("chassis_", "messaging_", "http_server_"))
        ),
    )


def questions() -> Iterator[str]:
    said = _copier()
    asked = {
        name: question
        for name, question in said.items()
        if not name.startswith("_") and question.get("when") is not False
    }
    yield from table(
        ("Question", "Default", "Choices", "Meaning"),
        (
            (
                f"`{name}`",
                f"`{_shown(question['default'], said)}`",
                choices(question.get("choices", ())),
                question["help"],
            )
            for name, question in asked.items()
        ),
    )


def yours() -> Iterator[str]:
    yield "```"
    said = _copier()
    yield from [*said["yours"]["default"], *said["our"]["default"].get("yours", ())]
    yield "```"


def chart_values() -> Iterator[str]:
    answers = {
        name: f"<{name}>" for name in ("service_name", "owner", "image_registry", "bus", "inbox")
    }
    defaults = yaml.safe_load(
        Template((CHART / "values.yaml.jinja").read_text("utf-8")).render(answers)
    )
    rows = _values(json.loads(SCHEMA.read_text("utf-8")), defaults, "")
    yield from table(("Value", "Default", "Meaning"), rows)


def attributes() -> Iterator[str]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    full = Envelope("id", "source", "type", now, "subject", "traceparent", "tracestate")
    amqp, nats = (
        {header.removeprefix(prefix): header for header in to_headers(full, prefix)}
        for prefix in (AMQP_PREFIX, NATS_PREFIX)
    )
    meant = matched(ATTRIBUTES, amqp, "CloudEvents attributes")
    rows = ((f"`{amqp[name]}`", f"`{nats[name]}`", meaning) for name, meaning in meant.items())
    yield from table(("AMQP header", "NATS header", "Meaning"), rows)


def retry_headers() -> Iterator[str]:
    headers = retry_properties(_RECEIVED, History(2, "2026-01-01T00:00:00Z", 1)).headers or {}
    meanings = {
        "chassis-attempt": "Number of the coming attempt, from 1.",
        "chassis-first-failure": "RFC 3339 time of the first failed attempt.",
        "chassis-replays": "How often the event has come back from the dead letters.",
        "chassis-origin-exchange": "RabbitMQ: the exchange to which the event was first published.",
        "chassis-origin-routing-key": "RabbitMQ: the first routing key.",
    }
    meant = matched(meanings, headers, "headers of a retry")
    yield from table(
        ("Header", "Meaning"), ((f"`{name}`", meaning) for name, meaning in meant.items())
    )


def reasons() -> Iterator[str]:
    meant = matched(REASONS, GIVEN, "reasons of dead letters")
    yield from table(
        ("Reason", "Meaning"), ((f"`{name}`", meaning) for name, meaning in meant.items())
    )


def dead_letter_headers() -> Iterator[str]:
    meant = matched(FAILURE, [field.name for field in fields(Failure)], "fields of a failure")
    failure = Failure(reason="rejected")
    amqp = dead_properties(_RECEIVED, "service", failure).headers or {}
    nats = {line.partition(b":")[0].decode() for line in letter_lines([], "type", failure)}
    named = {name: f"dead-letter-{name.replace('_', '-')}" for name in meant}
    absent = [header for header in named.values() if header not in amqp or header not in nats]
    if absent:
        raise StaleMeaningError(f"no adapter writes the headers {', '.join(absent)}")
    yield from table(
        ("Header", "Meaning"), ((f"`{named[name]}`", meaning) for name, meaning in meant.items())
    )


def records() -> Iterator[str]:
    for name, record in json.loads(RECORDS.read_text("utf-8"))["$defs"].items():
        yield from ("", f"### `{name}`", "", record["description"], "")
        rows = (
            (f"`{field}`", json_type(about), about["description"])
            for field, about in record["properties"].items()
        )
        yield from table(("Field", "Type", "Meaning"), rows)


REGIONS: Mapping[str, Callable[[], Iterable[str]]] = {
    "attributes": attributes,
    "chart-values": chart_values,
    "dead-letter-headers": dead_letter_headers,
    "dockyard-command": dockyard_command,
    "metrics": metrics,
    "questions": questions,
    "reasons": reasons,
    "records": records,
    "retry-headers": retry_headers,
    "service-command": service_command,
    "settings": settings,
    "yours": yours,
}

_REGION = re.compile(
    r"(?P<begin><!-- begin (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end (?P=name) -->)", re.DOTALL
)
_SUFFIX = {"counter": "_total", "info": "_info"}
_RECEIVED = Received({}, b"", Basic.Properties(message_id="id"), "events", "type")


def rewritten(page: str) -> str:
    """`page` with each region as the code is now. Raises StaleMeaningError, KeyError."""

    def written(found: re.Match[str]) -> str:
        lines = "\n".join(REGIONS[found["name"]]()).strip("\n")
        return f"{found['begin']}\n{lines}\n\n{found['end']}"

    return _REGION.sub(written, page)


def chart_schema() -> str:
    """The chart's schema with the code's settings, so that Helm refuses a misspelt one."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    schema["$defs"]["setting"]["enum"] = sorted(variable.name for variable in VARIABLES.values())
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _values(schema: Mapping[str, Any], default: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """A row for each value that has a meaning of its own."""
    for name, below in schema["properties"].items():
        given = default.get(name)
        if "description" in below:
            shown = "" if given in (None, "") else f"`{json.dumps(given).strip(chr(34))}`"
            yield f"`{path}{name}`", shown, below["description"]
        else:
            yield from _values(below, given, f"{path}{name}.")


def _shown(default: object, said: Mapping[str, Any]) -> str:
    """`default` with what the organisation says of itself, answers by their names."""
    names = {name: f"<{name}>" for name in said}
    return Template(str(default)).render({**names, "our": said["our"]["default"]})


def _copier() -> dict[str, Any]:
    return read_folder(QUESTIONS.parent)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the generated parts of docs/reference.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a page is stale"
    )
    check = parser.parse_args().check
    try:
        current = {path: rewritten(path.read_text("utf-8")) for path in sorted(PAGES.glob("*.md"))}
        current[SCHEMA] = chart_schema()
        stale = {path: after for path, after in current.items() if path.read_text("utf-8") != after}
    except StaleMeaningError as error:
        sys.stderr.write(f"{error}: mend its tables\n")
        return 1
    for path, after in stale.items():
        if check:
            sys.stderr.write(
                f"{path.relative_to(ROOT)} is not what the code says: run `make docs`\n"
            )
        else:
            path.write_text(after, "utf-8")
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

"""Ticks: what a schedule tells a handler, as an event of the service to itself.

Its id is its time, so the inbox takes it once, whichever replicas have published it. Each schedule
has an event type of its own.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from chassis.context import Context
from chassis.contracts import json_body
from chassis.contracts.envelope import EncodedEvent, Envelope, format_time, parse_time
from chassis.retry import Doomed
from chassis.schedule.due import When

TickHandler = Callable[["Tick", Context[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Tick:
    """`due` is the time that the schedule says, in UTC, however late the handler is."""

    schedule: str
    due: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a team registered. `missed`: the age in seconds up to which a tick is made up for."""

    name: str
    when: When
    handler: TickHandler
    missed: float

    async def handle(self, body: Message, context: Context[Any]) -> None:
        """Give the tick in `body` to the handler. Raises Doomed if it is none."""
        assert isinstance(body, Struct)  # noqa: S101 - parsed as one
        try:
            due = parse_time(body["due"])
        except (KeyError, ValueError) as error:
            raise Doomed("undecodable", f"not a tick: {error!r}") from error
        await self.handler(Tick(self.name, due), context)


def tick_type(service: str, schedule: str) -> str:
    """The event type of a schedule's ticks: no other service takes them."""
    name = re.sub(r"\W", "_", service, flags=re.ASCII)
    return f"chassis.ticks.of_{name}.{schedule}"


def to_tick_event(service: str, schedule: Schedule, due: datetime) -> EncodedEvent:
    body = Struct()
    body.update({"due": format_time(due)})
    envelope = Envelope(
        format_time(due), f"{service}/{schedule.name}", tick_type(service, schedule.name), due
    )
    return EncodedEvent(envelope, body.SerializeToString(deterministic=True))


def parse(body: bytes) -> Message:
    """Raises DecodeError."""
    return Struct.FromString(body)


parse_json = partial(json_body.parse_json, Struct)

"""Events that are published later. Each waits inside of an event of the service to itself.

That event goes to the broker at once, so what waits survives every restart. Pure but for the clock:
knows envelopes; knows no broker and no store.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import quote, unquote

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from chassis.contracts import json_body
from chassis.contracts.envelope import EncodedEvent, Envelope


class BadDelay(ValueError):
    """No time to publish at can be told from `after=` and `at=`."""


def delayed_type(service: str) -> str:
    """The event type of what waits in `service`: no other service takes it."""
    name = re.sub(r"\W", "_", service, flags=re.ASCII)
    return f"chassis.delayed.of_{name}"


class Delays:
    """Puts off the events of `service`."""

    def __init__(
        self, service: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._service = service
        self._now = now

    def put_off(
        self, event: EncodedEvent, after: timedelta | None, at: datetime | None
    ) -> EncodedEvent:
        """The event that carries `event` until it is due, which is its time. Raises BadDelay."""
        if (after is None) == (at is None):
            raise BadDelay("publish() takes after= or at=, not both")
        try:
            due = at if after is None else self._now() + after
        except OverflowError:
            raise BadDelay(f"after={after!r} is later than any date") from None
        if due is None or due.tzinfo is None:
            raise BadDelay("at= needs a time zone, such as datetime.now(UTC)")
        inner = event.envelope
        envelope = Envelope(inner.id, inner.source, delayed_type(self._service), due)
        # The id is in the body too: the body alone gives the key of the claim.
        body = Any(type_url=f"{quote(inner.id, safe='')}/{inner.type}", value=event.body)
        return EncodedEvent(envelope, body.SerializeToString(deterministic=True))


def carried_id(body: Message) -> str:
    """The id of the event that waits in `body`."""
    return unquote(_url(body).rpartition("/")[0])


def carried(body: Message, source: str, due: datetime) -> EncodedEvent:
    """The event that waits in `body`. It happens when it is due. Raises ValueError for no event."""
    assert isinstance(body, Any)  # noqa: S101 - parsed as one
    id_, type_ = carried_id(body), _url(body).rpartition("/")[2]
    if not id_ or not type_:
        raise ValueError(f"{body.type_url!r:.100} names no id and type")
    return EncodedEvent(Envelope(id_, source, type_, due), body.value)


def parse(body: bytes) -> Message:
    """Raises DecodeError."""
    return Any.FromString(body)


parse_json = partial(json_body.parse_json, Any)


def _url(body: Message) -> str:
    assert isinstance(body, Any)  # noqa: S101 - parsed as one
    return body.type_url

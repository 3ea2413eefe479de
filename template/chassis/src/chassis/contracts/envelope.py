"""CloudEvents 1.0 attributes and the headers that carry them (binary content mode).

Knows the names and the encoding of attributes; knows no broker and no protobuf.
Source: the CloudEvents specification 1.0.2 and its AMQP and NATS protocol bindings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import ClassVar
from urllib.parse import quote, unquote

CONTENT_TYPE = "application/protobuf"
SPEC_VERSION = "1.0"
LONGEST_ATTRIBUTE = 1024

AMQP_PREFIX = "cloudEvents:"
AMQP_PREFIX_ALTERNATIVE = "cloudEvents_"
NATS_PREFIX = "ce-"


class _Names:
    """The headers of the attributes, put together once and not for each event."""

    def __init__(self, prefix: str) -> None:
        self.version = prefix + "specversion"
        self.id = prefix + "id"
        self.source = prefix + "source"
        self.type = prefix + "type"
        self.time = prefix + "time"
        self.subject = prefix + "subject"


_AMQP, _AMQP_ALTERNATIVE = _Names(AMQP_PREFIX), _Names(AMQP_PREFIX_ALTERNATIVE)
_NAMES = {AMQP_PREFIX: _AMQP, NATS_PREFIX: _Names(NATS_PREFIX)}

_UNESCAPED = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


class EnvelopeError(ValueError):
    """The headers of a message are not a CloudEvent that this service can read."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of an event, known without decoding its body.

    `id` is unique within `source`; `type` is the protobuf full name of the body; `time` is when the
    event happened. `traceparent` and `tracestate` are W3C trace context.
    """

    id: str
    source: str
    type: str
    time: datetime | None = None
    subject: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    json: ClassVar[bool] = False
    """Whether the body is JSON instead of protobuf."""

    @property
    def trace(self) -> dict[str, str]:
        """The W3C trace context as headers, empty when there is none."""
        if self.traceparent is None:
            return {}
        if self.tracestate is None:
            return {"traceparent": self.traceparent}
        return {"traceparent": self.traceparent, "tracestate": self.tracestate}

    def with_trace(self, traceparent: str | None, tracestate: str | None) -> "Envelope":
        return type(self)(
            self.id, self.source, self.type, self.time, self.subject, traceparent, tracestate
        )


@dataclass(frozen=True, slots=True)
class JsonEnvelope(Envelope):
    """The envelope of a publisher without protobuf.

    A class of its own: one more field would cost time for each event of all the others.
    """

    json: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """An event on its way out: the envelope and the encoded protobuf body."""

    envelope: Envelope
    body: bytes


class BadKey(ValueError):
    """An id or a key that no event can have."""


def checked(what: str, given: str) -> str:
    """`given`, an id or a key. Raises BadKey."""
    if not 0 < len(given) <= LONGEST_ATTRIBUTE:
        raise BadKey(
            f"an {what} has 1 to {LONGEST_ATTRIBUTE} characters, this one has {len(given)}: leave "
            "it out, or shorten it"
        )
    return given


def derived_id(key: str, index: int) -> str:
    """Id of the `index`-th event published while handling `key`: the same at every attempt."""
    return blake2b(f"{key}/{index}".encode(), digest_size=16).hexdigest()


def to_headers(envelope: Envelope, prefix: str) -> dict[str, str]:
    """Headers of `envelope`, attribute names prefixed with `prefix`."""
    encode = percent_encode if prefix == NATS_PREFIX else str
    headers = {
        prefix + "specversion": SPEC_VERSION,
        prefix + "id": encode(envelope.id),
        prefix + "source": encode(envelope.source),
        prefix + "type": envelope.type,
    }
    if envelope.time is not None:
        headers[prefix + "time"] = format_time(envelope.time)
    if envelope.subject is not None:
        headers[prefix + "subject"] = encode(envelope.subject)
    if envelope.traceparent is not None:
        headers["traceparent"] = envelope.traceparent
    if envelope.tracestate is not None:
        headers["tracestate"] = envelope.tracestate
    return headers


def is_json(content_type: object) -> bool:
    """Whether a body of this `content_type` is JSON."""
    if content_type == CONTENT_TYPE or not isinstance(content_type, str):
        return False
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")


def from_headers(
    headers: Mapping[str, object], prefix: str, content_type: object = None
) -> Envelope:
    """The envelope in `headers`. `content_type` is the message's, if it is not one of them.

    Raises EnvelopeError, naming the attribute, when a required one is missing or one is malformed.
    """
    named = _NAMES.get(prefix)
    if named is None:
        raise ValueError(f"unknown CloudEvents header prefix {prefix!r}")
    get = headers.get
    if content_type is None:
        content_type = get("content-type") or get("Content-Type")
    json = content_type != CONTENT_TYPE and is_json(content_type)
    if json and "cloudevents" in str(content_type).lower():
        raise EnvelopeError(
            f"the content type is {_shown(content_type)}, CloudEvents' structured mode; publish in "
            "binary mode: attributes as headers, and a body of application/json"
        )
    version = get(named.version)
    if version is None and named is _AMQP and _AMQP_ALTERNATIVE.version in headers:
        named = _AMQP_ALTERNATIVE
        version = get(named.version)
    if version != SPEC_VERSION:
        raise EnvelopeError(f"header {named.version} is {_shown(version)}, expected {SPEC_VERSION}")
    time = get(named.time)
    subject = get(named.subject)
    traceparent = get("traceparent")
    tracestate = get("tracestate")
    decode = unquote if prefix == NATS_PREFIX else str
    kind = JsonEnvelope if json else Envelope
    return kind(
        decode(_required(named.id, get(named.id))),
        decode(_required(named.source, get(named.source))),
        _required(named.type, get(named.type)),
        None if time is None else parse_time(time),
        decode(subject) if isinstance(subject, str) else None,
        traceparent if isinstance(traceparent, str) else None,
        tracestate if isinstance(tracestate, str) else None,
    )


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def parse_time(text: object) -> datetime:
    """An RFC 3339 time, in UTC; raises EnvelopeError when it is none or has no offset.

    A leap second is the second after it: Python's times have none.
    """
    try:
        time = text if isinstance(text, datetime) else _from_rfc_3339(str(text))
        if time.tzinfo is not UTC and time.tzinfo is not None:
            time = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise EnvelopeError(f"attribute time is {_shown(text)}, not an RFC 3339 time") from None
    if time.tzinfo is None:
        raise EnvelopeError(f"attribute time is {_shown(text)}, it has no UTC offset")
    return time


_RFC_3339 = re.compile(
    r"(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?:[01][0-9]|2[0-3]):[0-9]{2}):(?P<second>[0-9]{2})"
    r"(?P<rest>(?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-9]{2})?)"
)
"""Section 5.6, the offset left out also: its absence has a sentence of its own."""


def _from_rfc_3339(text: str) -> datetime:
    """Raises ValueError. ISO 8601 has more forms than RFC 3339, such as week dates."""
    parts = _RFC_3339.fullmatch(text)
    if parts is None:
        raise ValueError(text)
    if parts["second"] != "60":
        return datetime.fromisoformat(text.upper())
    last = datetime.fromisoformat(f"{parts['minute']}:59{parts['rest']}".upper())
    if last.astimezone(UTC).strftime("%H:%M:%S") != "23:59:59":
        raise ValueError(text)
    return last + timedelta(seconds=1)


def _required(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise EnvelopeError(f"header {name} is {_shown(value)}, expected a non-empty string")
    if len(value) > LONGEST_ATTRIBUTE:
        raise EnvelopeError(
            f"header {name} has {len(value)} characters, at most {LONGEST_ATTRIBUTE} allowed"
        )
    return value


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:80]


def percent_encode(text: str) -> str:
    """Percent-encoding of the NATS protocol binding.

    It leaves printable ASCII as it is, except `"` and `%`.
    """
    return text if text.isascii() and text.isalnum() else quote(text, safe=_UNESCAPED)

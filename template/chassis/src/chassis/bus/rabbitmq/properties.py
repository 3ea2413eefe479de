"""The properties of a published event, encoded as AMQP carries them.

Most of them are the same for all events of a type, so they are encoded once.
"""

from functools import lru_cache
from hashlib import blake2b
from struct import Struct

from pamqp.commands import Basic

from chassis.bus.rabbitmq.transport import short_string
from chassis.contracts.envelope import (
    AMQP_PREFIX,
    CONTENT_TYPE,
    SPEC_VERSION,
    EncodedEvent,
    format_time,
)

_FLAGS = sum(
    Basic.Properties.flags[name]
    for name in ("content_type", "headers", "delivery_mode", "message_id", "app_id")
)
_SHORT, _LONG, _STAMP = Struct(">H"), Struct(">I"), Struct(">Q")
_ID, _TIME, _SUBJECT, _TRACEPARENT, _TRACESTATE = (
    short_string(name) + b"S"
    for name in (
        AMQP_PREFIX + "id",
        AMQP_PREFIX + "time",
        AMQP_PREFIX + "subject",
        "traceparent",
        "tracestate",
    )
)


def event_properties(message: EncodedEvent, app_id: str) -> bytes:
    """An id that is too long for `message_id` (255 bytes) is hashed there."""
    envelope = message.envelope
    raw_id = envelope.id.encode()
    headers = [_constant_headers(envelope.type, envelope.source), _header(_ID, raw_id)]
    flags, stamp = _FLAGS, b""
    if envelope.time is not None:
        headers.append(_header(_TIME, format_time(envelope.time).encode()))
        if (seconds := envelope.time.timestamp()) >= 0:
            flags, stamp = flags | Basic.Properties.flags["timestamp"], _STAMP.pack(int(seconds))
    for name, text in (
        (_SUBJECT, envelope.subject),
        (_TRACEPARENT, envelope.traceparent),
        (_TRACESTATE, envelope.tracestate),
    ):
        if text is not None:
            headers.append(_header(name, text.encode()))
    table = b"".join(headers)
    if len(raw_id) > 255:
        raw_id = blake2b(raw_id, digest_size=16).hexdigest().encode()
    return b"%b%b%b%b\x02%c%b%b%b" % (
        _SHORT.pack(flags),
        short_string(CONTENT_TYPE),
        _LONG.pack(len(table)),
        table,
        len(raw_id),
        raw_id,
        stamp,
        short_string(app_id),
    )


def _header(name: bytes, text: bytes) -> bytes:
    return b"%b%b%b" % (name, _LONG.pack(len(text)), text)


@lru_cache(maxsize=1024)
def _constant_headers(type_: str, source: str) -> bytes:
    headers = {"specversion": SPEC_VERSION, "type": type_, "source": source}
    return b"".join(
        _header(short_string(AMQP_PREFIX + name) + b"S", text.encode())
        for name, text in headers.items()
    )

"""The header block of a published event.

Most of it is the same for all events of a type, so that part is encoded once. Knows the envelope;
knows no connection.
"""

from functools import lru_cache

from chassis.contracts.envelope import (
    CONTENT_TYPE,
    NATS_PREFIX,
    SPEC_VERSION,
    Envelope,
    format_time,
    percent_encode,
)
from chassis.jetstream.wire import header_block, one_line


def event_headers(envelope: Envelope) -> bytes:
    """Line breaks in a trace context become spaces; all else has none."""
    lines = f"ce-id: {percent_encode(envelope.id)}\r\n"
    if envelope.time is not None:
        lines += f"ce-time: {format_time(envelope.time)}\r\n"
    if envelope.subject is not None:
        lines += f"ce-subject: {percent_encode(envelope.subject)}\r\n"
    if envelope.traceparent is not None:
        lines += f"traceparent: {one_line(envelope.traceparent)}\r\n"
    if envelope.tracestate is not None:
        lines += f"tracestate: {one_line(envelope.tracestate)}\r\n"
    return b"%b%b\r\n" % (_constant(envelope.type, envelope.source), lines.encode())


@lru_cache(maxsize=1024)
def _constant(type_: str, source: str) -> bytes:
    """The block's beginning, without the line that ends it."""
    headers = {
        NATS_PREFIX + "specversion": SPEC_VERSION,
        NATS_PREFIX + "type": type_,
        NATS_PREFIX + "source": percent_encode(source),
        "content-type": CONTENT_TYPE,
    }
    block = header_block(f"{name}: {text}".encode() for name, text in headers.items())
    return block.removesuffix(b"\r\n")

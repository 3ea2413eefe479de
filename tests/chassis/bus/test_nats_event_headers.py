"""The header block of a published event is the one that its attributes ask for."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chassis.bus.nats.event_headers import event_headers
from chassis.contracts.envelope import (
    CONTENT_TYPE,
    NATS_PREFIX,
    Envelope,
    from_headers,
    to_headers,
)
from chassis.jetstream.wire import decode_headers

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EAST = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope("e-1", "billing-svc", "acme.v1.Opened"),
        Envelope("é % \r\n", 'http://x/"a"', "acme.v1.Opened", subject="a\r\nce-id: forged"),
        Envelope("1", "s", "acme.v1.Opened", datetime(2026, 1, 1, tzinfo=UTC), "ä", TRACE, "v=1"),
        Envelope("1", "s", "acme.v1.Opened", EAST, traceparent=TRACE),
    ],
)
def test_an_event_has_the_headers_of_its_envelope(envelope: Envelope) -> None:
    headers = decode_headers(event_headers(envelope))
    assert headers == to_headers(envelope, NATS_PREFIX) | {"content-type": CONTENT_TYPE}
    assert from_headers(headers, NATS_PREFIX) == envelope


def test_a_trace_context_never_ends_its_line() -> None:
    block = event_headers(
        Envelope("1", "s", "t", traceparent="a\r\nce-id: forged", tracestate="b\n")
    )
    assert decode_headers(block)["ce-id"] == "1"
    assert decode_headers(block)["traceparent"] == "a  ce-id: forged"

"""CloudEvents attributes to headers and back."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.envelope import (
    AMQP_PREFIX,
    AMQP_PREFIX_ALTERNATIVE,
    NATS_PREFIX,
    Envelope,
    EnvelopeError,
    derived_id,
    format_time,
    from_headers,
    parse_time,
    to_headers,
)

PREFIXES = (AMQP_PREFIX, NATS_PREFIX)
ATTRIBUTE = st.text(min_size=1, max_size=200)


def headers(prefix: str = AMQP_PREFIX, **changes: object) -> dict[str, object]:
    whole = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "shop",
        "type": "acme.signup.v1.UserSignedUp",
    } | changes
    return {prefix + name: value for name, value in whole.items() if value is not None}


@pytest.mark.parametrize("prefix", PREFIXES)
@given(
    id_=ATTRIBUTE,
    source=ATTRIBUTE,
    subject=st.none() | ATTRIBUTE,
    time=st.none() | st.datetimes(timezones=st.just(UTC)),
    tracestate=st.none() | st.text(),
)
def test_an_envelope_survives_its_headers(
    prefix: str,
    id_: str,
    source: str,
    subject: str | None,
    time: datetime | None,
    tracestate: str | None,
) -> None:
    envelope = Envelope(
        id_, source, "acme.signup.v1.UserSignedUp", time, subject, "00-a-b-01", tracestate
    )
    assert from_headers(to_headers(envelope, prefix), prefix) == envelope


@given(text=ATTRIBUTE)
def test_nats_headers_hold_only_printable_ascii(text: str) -> None:
    value = to_headers(Envelope(text, "shop", "t"), NATS_PREFIX)["ce-id"]
    assert all(0x21 <= ord(character) <= 0x7E and character != '"' for character in value)


def test_nats_headers_are_percent_encoded_as_the_binding_says() -> None:
    encoded = to_headers(Envelope('Euro € "100%" a/b', "shop", "t"), NATS_PREFIX)["ce-id"]
    assert encoded == "Euro%20%E2%82%AC%20%22100%25%22%20a/b"


def test_amqp_headers_are_not_encoded() -> None:
    assert to_headers(Envelope("100 €", "shop", "t"), AMQP_PREFIX)["cloudEvents:id"] == "100 €"


def test_amqp_headers_with_an_underscore_are_read() -> None:
    assert from_headers(headers(AMQP_PREFIX_ALTERNATIVE), AMQP_PREFIX).id == "e-1"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["id", "source", "type"])
@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "missing"), ("", "''"), (7, "7"), (b"e-1", "b'e-1'"), ("x" * 1025, "1025 characters")],
    ids=["missing", "empty", "number", "bytes", "overlong"],
)
def test_a_bad_attribute_is_named_in_the_error(
    prefix: str, name: str, value: object, said: str
) -> None:
    with pytest.raises(EnvelopeError) as refused:
        from_headers(headers(prefix, **{name: value}), prefix)
    assert prefix + name in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("version", [None, "0.3", 1.0])
def test_another_specversion_is_refused(prefix: str, version: object) -> None:
    with pytest.raises(EnvelopeError, match=f"{prefix}specversion is .*expected 1.0"):
        from_headers(headers(prefix, specversion=version), prefix)


def test_an_error_does_not_repeat_a_long_value() -> None:
    with pytest.raises(EnvelopeError) as refused:
        from_headers(headers(specversion="x" * 10_000), AMQP_PREFIX)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T05:04:05+02:00",
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2026, 1, 2, 1, 4, 5, tzinfo=timezone(timedelta(hours=-2))),
    ],
)
def test_a_time_with_any_offset_is_read_as_utc(time: object) -> None:
    assert parse_time(time) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert parse_time(time).utcoffset() == timedelta()


@pytest.mark.parametrize(
    "time",
    ["2026-01-02T03:04:05", datetime(2026, 1, 2)],  # noqa: DTZ001 - that is the mistake
    ids=["text", "datetime"],
)
def test_a_time_without_an_offset_is_refused(time: object) -> None:
    with pytest.raises(EnvelopeError, match=r"time is .* no UTC offset"):
        from_headers(headers(time=time), AMQP_PREFIX)


@pytest.mark.parametrize(
    ("time", "second"),
    [
        ("2026-01-02t03:04:05z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05.25Z", datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789-00:00", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("1990-12-31T15:59:60.5-08:00", datetime(1991, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_every_form_of_rfc_3339(time: str, second: datetime) -> None:
    assert parse_time(time) == second


@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        5,
        "0001-01-01T00:00:00+23:59",
        "2026-W01-5T03:04:05Z",
        "2026-001T03:04:05Z",
        "20260102T030405Z",
        "2026-01-02T03:04Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:04:60Z",
        "9999-12-31T23:59:60Z",
        "2026-01-02T03:04:05+01",
        "2026-01-02T03:04:05,5Z",
        "2026-01-02",
        "٢٠٢٦-01-02T03:04:05Z",
    ],
)
def test_what_is_no_time_is_refused(time: object) -> None:
    with pytest.raises(EnvelopeError, match=r"time is .* not an RFC 3339 time"):
        from_headers(headers(time=time), AMQP_PREFIX)


def test_times_are_written_in_utc_with_microseconds() -> None:
    two_hours_east = datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=2)))
    assert format_time(two_hours_east) == "2026-01-02T01:04:05.000006Z"


@given(text=st.text())
def test_a_derived_id_is_the_same_each_time_and_differs_by_index(text: str) -> None:
    assert derived_id(text, 0) == derived_id(text, 0)
    assert derived_id(text, 0) != derived_id(text, 1)


def test_an_unknown_prefix_is_a_mistake_of_the_adapter() -> None:
    with pytest.raises(ValueError, match="unknown CloudEvents header prefix 'x-'"):
        from_headers(headers(), "x-")

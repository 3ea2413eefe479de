"""What a dead letter's headers say, and which two deaths are one entry."""

import pytest

from chassis.bus import Failure
from chassis.bus.dead_letters import failure_headers, in_brief, letter_id, read_failure

FAILURE = Failure(
    "rejected", "ValueError", "no such plan", "File …", "open_account", 3, "billing-svc", "1.2.3"
)
EVENT = {"ce-id": "e-1", "ce-source": "shop", "ce-type": "acme.v1.A", "ce-time": "now"}
ID = letter_id("billing-svc", EVENT, b"body", 0)


def test_a_failure_is_read_as_it_was_written_also_as_text() -> None:
    written = failure_headers(FAILURE)
    assert read_failure(written) == FAILURE
    assert read_failure({name: str(value) for name, value in written.items()}) == FAILURE


@pytest.mark.parametrize("attempts", ["many", -3, None, True, "9" * 5000])
def test_attempts_that_are_no_number_are_none(attempts: object) -> None:
    assert read_failure({"dead-letter-attempts": attempts}).attempts == 0


def test_a_failure_in_brief_keeps_its_reason_and_the_beginning_of_its_message() -> None:
    brief = in_brief(Failure("rejected", message="x" * 1000, stack="y" * 1000))
    assert brief == Failure("rejected", message="x" * 100)


def test_the_same_event_is_one_entry_whatever_else_its_headers_say() -> None:
    assert letter_id("billing-svc", EVENT | {"ce-time": "later"}, b"body", 0) == ID


@pytest.mark.parametrize("name", ["ce-id", "ce-source", "ce-type"])
def test_another_event_is_another_entry(name: str) -> None:
    assert letter_id("billing-svc", EVENT | {name: "other"}, b"body", 0) != ID


def test_another_body_or_service_is_another_entry() -> None:
    assert letter_id("billing-svc", EVENT, b"other", 0) != ID
    assert letter_id("welcome", EVENT, b"body", 0) != ID


def test_a_death_after_another_replay_is_another_entry() -> None:
    ids = {letter_id("billing-svc", EVENT, b"body", replays) for replays in range(3)}
    assert len(ids) == 3


def test_what_is_no_event_is_told_apart_by_all_its_headers() -> None:
    one, other = ({"junk": junk} for junk in ("a", "b"))
    assert letter_id("svc", one, b"", 0) == letter_id("svc", dict(one), b"", 0)
    assert letter_id("svc", one, b"", 0) != letter_id("svc", other, b"", 0)

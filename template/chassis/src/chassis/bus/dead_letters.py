"""The one format of a dead letter on every broker: its fields, their headers, and its id.

A dead letter is the original message, headers and body untouched, plus one header for each field
of `Failure`, such as `dead-letter-reason`. Knows names and values; an adapter encodes them as its
protocol wants.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from hashlib import blake2b

from chassis.bus.history import number
from chassis.contracts.envelope import AMQP_PREFIX, AMQP_PREFIX_ALTERNATIVE, NATS_PREFIX


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message goes to the dead letters. Times are RFC 3339; `stack` is at most 4 KiB."""

    reason: str
    error: str = ""
    message: str = ""
    stack: str = ""
    handler: str = ""
    attempts: int = 0
    service: str = ""
    version: str = ""
    first_failure: str = ""
    last_failure: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One entry of a service's dead letters: the message as it came in, and why it died.

    `id` is derived from the message and its `replays`. The same message that dies twice is one
    entry; if it dies again after a replay, that is another entry.
    """

    id: str
    headers: Mapping[str, object]
    body: bytes
    type: str
    failure: Failure
    replays: int = 0
    json: bool = False
    """Whether the body is JSON."""


PREFIX = "dead-letter-"
FAILURE_HEADERS = {field.name: PREFIX + field.name.replace("_", "-") for field in fields(Failure)}
REASON = FAILURE_HEADERS["reason"]

_BRIEF_MESSAGE = 100
_MOST_ATTEMPTS = 2**31


def failure_headers(failure: Failure) -> dict[str, str | int]:
    """The headers that say why a message died."""
    return {header: getattr(failure, name) for name, header in FAILURE_HEADERS.items()}


def read_failure(headers: Mapping[str, object]) -> Failure:
    """The failure in `headers`; a field that is missing there is empty."""
    texts = {
        name: str(headers.get(header, ""))
        for name, header in FAILURE_HEADERS.items()
        if name != "attempts"
    }
    return Failure(
        **texts, attempts=number(headers.get(FAILURE_HEADERS["attempts"]), 0, _MOST_ATTEMPTS)
    )


def in_brief(failure: Failure) -> Failure:
    """The same failure for a broker that takes no larger headers: no stack, a short message."""
    return replace(failure, stack="", message=failure.message[:_BRIEF_MESSAGE])


def letter_id(service: str, headers: Mapping[str, object], body: bytes, replays: int) -> str:
    """A hash of service, event, body and replays; of all headers if they are no CloudEvent's.

    The body counts: another payload under the same event id is a message of its own. Replays
    count: an event that dies again after a replay is an entry of its own. Otherwise it would meet
    the entry that the replay is about to remove, be taken for stored, and be lost.
    """
    said = f"{service}\0{_event(headers)}\0{replays or ''}\0".encode()
    return blake2b(said + body, digest_size=16).hexdigest()


def _event(headers: Mapping[str, object]) -> str:
    for prefix in (AMQP_PREFIX, AMQP_PREFIX_ALTERNATIVE, NATS_PREFIX):
        named = [headers.get(prefix + name) for name in ("source", "id", "type")]
        if all(isinstance(value, str) and value for value in named):
            return "\0".join(map(str, named))
    return repr(sorted(headers.items(), key=lambda item: item[0]))

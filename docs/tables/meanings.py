"""Meanings that the code does not hold. A missing one is an error, and so is a superfluous one."""

from collections.abc import Iterable, Mapping
from pathlib import Path

ATTRIBUTES = {
    "specversion": "Always `1.0`.",
    "id": "Unique within `source`; at most 1024 characters. Required.",
    "source": "The publisher: the service's name. Required.",
    "type": "Protobuf full name of the body. Required.",
    "time": "Time of the event: RFC 3339 with an offset. The chassis writes UTC, microseconds.",
    "subject": "What the event is about. Carried, not interpreted.",
    "traceparent": "W3C trace context.",
    "tracestate": "W3C trace context.",
}

REASONS = {
    "attempts_exhausted": "The event failed `CHASSIS_MAX_ATTEMPTS` times.",
    "bad_envelope": "The headers are not a CloudEvent, or not readable; the message names them.",
    "bad_key": "`key=`, `ordered_by=` or a process's `by=` raised, or gave no usable string.",
    "bad_state": "The stored state of the event's process cannot be read; the message says why.",
    "crash_loop": "It was delivered many times and never settled: it seems to kill the process.",
    "expired": "The event failed again, `CHASSIS_MAX_AGE_SECONDS` or more after its first failure.",
    "no_such_process": "The event's process had not started, also after the last attempt.",
    "outdated_version": "Handlers take only newer versions, and no upcaster leads to them.",
    "oversize": "The body is larger than `CHASSIS_MAX_BODY_BYTES`, a failed event has no room for "
    "the headers of a retry, or the state of a process is larger than its `max_bytes=`.",
    "payload_mismatch": "The inbox knows the same key with another body.",
    "rejected": "A handler raised `Reject`.",
    "undecodable": "The body is not a message of the type.",
    "unknown_type": "No handler takes the type.",
    "unpublishable": "The handler published what is too large, has no valid type or is no message.",
    "unsupported_version": "Handlers take other versions, one of them older, but not this one.",
    "upcast_failed": "An upcaster raised or did not return the newer message; the text names it.",
}

FAILURE = {
    "reason": "One of the reasons above.",
    "error": "Class of the exception, with its module.",
    "message": "Text of the exception, or of the chassis; at most 2048 bytes.",
    "stack": "The last 4096 bytes of the stack.",
    "handler": "Name of the handler that failed.",
    "attempts": "Number of attempts; 0 if no handler was tried.",
    "service": "The service that the dead letter belongs to.",
    "version": "That service's version.",
    "first_failure": "RFC 3339 time of the first failed attempt.",
    "last_failure": "RFC 3339 time of the last failed attempt.",
}


class StaleMeaningError(Exception):
    """The code and the meanings in this file name different things."""


def matched(meanings: Mapping[str, str], named: Iterable[str], what: str) -> Mapping[str, str]:
    """`meanings`, if their keys are exactly `named`. Raises StaleMeaningError."""
    if different := sorted(meanings.keys() ^ set(named)):
        raise StaleMeaningError(
            f"{what}: {', '.join(different)} are only in the code or only in {Path(__file__).name}"
        )
    return meanings

"""Why an event goes to the dead letters: one list, for the code and for users."""

from typing import Literal, get_args

Reason = Literal[
    "attempts_exhausted",
    "bad_envelope",
    "bad_key",
    "bad_state",
    "crash_loop",
    "expired",
    "no_such_process",
    "outdated_version",
    "oversize",
    "payload_mismatch",
    "rejected",
    "undecodable",
    "unknown_type",
    "unpublishable",
    "unsupported_version",
    "upcast_failed",
]
"""Why the chassis moves a message to the dead letters; short and few, so also a metric's label."""
REASONS: tuple[Reason, ...] = get_args(Reason)

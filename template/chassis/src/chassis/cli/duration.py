"""Durations as options of commands take them."""

import re
from datetime import timedelta

from chassis.cli.session import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str | None) -> timedelta | None:
    """`90s`, `15m`, `2h` or `7d`. Raises UsageError for any other text."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise UsageError(f"{text!r} is not a duration: a number and one of s, m, h, d, such as 15m")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])

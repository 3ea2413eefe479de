"""What one server says on its monitoring port. Knows HTTP and JSON; knows no metric."""

import json
import time
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.request import urlopen

Json = dict[str, Any]

_STREAMS = "/jsz?accounts=true&streams=true&consumers=true&config=true&raft=true"
_CONNECTIONS = "/connz?limit=1&sort=pending"  # the one connection with the most bytes to be written


class Unreachable(Exception):
    """A server gave no usable answer; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answers of one server. `clock_offset`: seconds by which its clock is ahead of ours."""

    url: str
    varz: Json
    jsz: Json
    connz: Json
    clock_offset: float

    @property
    def name(self) -> str:
        return str(self.varz["server_name"])


def take(url: str, timeout: float) -> Snapshot:
    """Ask the server at `url` (such as `http://nats-0.nats:8222`). Raises Unreachable."""
    before = time.time()
    varz = _get(url, "/varz", timeout)
    middle = (before + time.time()) / 2
    try:
        offset = seconds(varz["now"]) - middle
        jsz = _get(url, _STREAMS, timeout) if varz.get("jetstream", {}).get("config") else {}
        return Snapshot(url, varz, jsz, _get(url, _CONNECTIONS, timeout), offset)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise Unreachable(f"{url} answers, but not as a NATS server does: {error!r}") from error


def seconds(stamp: str) -> float:
    """Unix time of a time as Go writes it: RFC 3339 with up to nine digits behind the second."""
    return datetime.fromisoformat(_microseconds(stamp)).timestamp()


def _microseconds(stamp: str) -> str:
    whole, dot, rest = stamp.partition(".")
    if not dot:
        return stamp
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{whole}.{rest[:digits][:6]:0<6}{rest[digits:]}"


def _get(url: str, path: str, timeout: float) -> Json:
    try:
        with urlopen(url + path, timeout=timeout) as answer:  # noqa: S310 - main() takes http(s) only
            found = json.load(answer)
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(f"{url}{path.partition('?')[0]}: {error}") from error
    if not isinstance(found, dict):
        raise Unreachable(f"{url}{path.partition('?')[0]}: the answer is not a JSON object")
    return found

"""What is seen of each request: its metrics, and the trace that its events continue.

Labels are bounded: a route is a pattern of the app, never a path. Knows ASGI, no framework.
"""

import re
from collections.abc import Iterable, MutableMapping
from time import monotonic
from typing import Any

from prometheus_client import Histogram

from chassis.service import AsgiApp
from chassis.telemetry.collectors import COLLECTORS
from chassis.telemetry.metrics import DURATION_BUCKETS
from chassis.telemetry.traces import Carrier, Traces, incoming

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_TRACESTATE = 512

REQUESTS = Histogram(
    "http_server_request_duration_seconds",
    "Time until a request to the mounted app was answered, by route, method and status.",
    ("route", "method", "status"),
    buckets=DURATION_BUCKETS,
    registry=None,
)
COLLECTORS.append(REQUESTS.collect)


class Observed:
    """Serves `app`, and counts its requests. A request without an answer counts as a 500."""

    def __init__(self, app: AsgiApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "500"

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        started = monotonic()
        method = scope["method"] if scope["method"] in METHODS else "other"
        with self._traces.serve(method, _carrier(scope["headers"])) as inside:
            token = incoming.set(inside)
            try:
                await self._app(scope, receive, noting)
            finally:
                incoming.reset(token)
                REQUESTS.labels(_route(scope), method, status).observe(monotonic() - started)


def _route(scope: MutableMapping[str, Any]) -> str:
    """The pattern of the route, which Starlette and FastAPI leave in the scope."""
    return str(getattr(scope.get("route"), "path", "unknown"))


def _carrier(headers: Iterable[tuple[bytes, bytes]]) -> Carrier:
    """The caller's trace context, if it is one: it goes on in headers of events."""
    found = {name: value.decode("latin-1") for name, value in headers if name.startswith(b"trace")}
    traceparent, tracestate = found.get(b"traceparent", ""), found.get(b"tracestate", "")
    if not _TRACEPARENT.fullmatch(traceparent):
        return {}
    if not 0 < len(tracestate) <= _LONGEST_TRACESTATE or not tracestate.isascii():
        return {"traceparent": traceparent}
    return {"traceparent": traceparent, "tracestate": tracestate}

"""OpenTelemetry spans around publishing and handling, linked through the message.

Without an endpoint it imports nothing and only hands the incoming trace context on.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from importlib import import_module
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

EXPORT_SECONDS = 2.0
SHUTDOWN_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class TracesError(Exception):
    """Traces are configured but cannot be made; the message says what is missing."""


Carrier = Mapping[str, str]

incoming: ContextVar[Carrier] = ContextVar("incoming", default=MappingProxyType({}))
"""The trace context of the request at work; empty outside of one."""


class Traces(Protocol):
    """`carrier` holds `traceparent` and `tracestate`; each span gives the carrier of its inside."""

    enabled: bool

    def handle(
        self, type_: str, handler: str, event_id: str, carrier: Carrier
    ) -> AbstractContextManager[Carrier]:
        """A CONSUMER span, child of the publisher's."""

    def publish(
        self, type_: str, event_id: str, carrier: Carrier
    ) -> AbstractContextManager[Carrier]:
        """A PRODUCER span."""

    def serve(self, method: str, carrier: Carrier) -> AbstractContextManager[Carrier]:
        """A SERVER span of a request, child of the caller's."""

    async def shutdown(self) -> None:
        """Send the last spans, for at most SHUTDOWN_SECONDS."""


class NoTraces:
    enabled = False

    def handle(
        self, type_: str, handler: str, event_id: str, carrier: Carrier
    ) -> AbstractContextManager[Carrier]:
        return nullcontext(carrier)

    def publish(
        self, type_: str, event_id: str, carrier: Carrier
    ) -> AbstractContextManager[Carrier]:
        return nullcontext(carrier)

    def serve(self, method: str, carrier: Carrier) -> AbstractContextManager[Carrier]:
        return nullcontext(carrier)

    async def shutdown(self) -> None:
        return None


class OtelTraces:
    """Spans by a given tracer; `messaging_system` as OpenTelemetry spells it.

    `shutdown` sends the last spans and may block; after `patience` seconds it is abandoned.
    """

    enabled = True

    def __init__(
        self,
        tracer: "Tracer",
        messaging_system: str,
        shutdown: Callable[[], object],
        *,
        patience: float = SHUTDOWN_SECONDS,
    ) -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - only installed with the extra `otel`
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - as above
            TraceContextTextMapPropagator,
        )

        self._tracer = tracer
        self._system = messaging_system
        self._consumer, self._producer = SpanKind.CONSUMER, SpanKind.PRODUCER
        self._server = SpanKind.SERVER
        self._propagator = TraceContextTextMapPropagator()
        self._shutdown = shutdown
        self._patience = patience

    @contextmanager
    def handle(
        self, type_: str, handler: str, event_id: str, carrier: Carrier
    ) -> Iterator[Carrier]:
        with self._tracer.start_as_current_span(
            f"process {type_}",
            context=self._propagator.extract(carrier),
            kind=self._consumer,
            attributes={**self._attributes("process", type_, event_id), "chassis.handler": handler},
        ):
            yield self._current()

    @contextmanager
    def publish(self, type_: str, event_id: str, carrier: Carrier) -> Iterator[Carrier]:
        with self._tracer.start_as_current_span(
            f"send {type_}",
            context=self._propagator.extract(carrier),
            kind=self._producer,
            attributes=self._attributes("send", type_, event_id),
        ):
            yield self._current()

    @contextmanager
    def serve(self, method: str, carrier: Carrier) -> Iterator[Carrier]:
        with self._tracer.start_as_current_span(
            method,
            context=self._propagator.extract(carrier),
            kind=self._server,
            attributes={"http.request.method": method},
        ):
            yield self._current()

    async def shutdown(self) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            try:
                self._shutdown()
            finally:
                with suppress(RuntimeError):  # abandoned, and the loop is closed
                    loop.call_soon_threadsafe(over.set)

        # A thread of its own: at its end, Python waits for threads of asyncio.to_thread for ever.
        Thread(target=send, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(self._patience):
                await over.wait()
        except TimeoutError:
            _log.warning("the collector did not take the last spans in time; they are lost")

    def _attributes(self, operation: str, type_: str, event_id: str) -> dict[str, str]:
        return {
            "messaging.system": self._system,
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": type_,
            "messaging.message.id": event_id,
        }

    def _current(self) -> Carrier:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier


def open_traces(
    endpoint: str | None, ratio: float, *, service: str, version: str, messaging_system: str
) -> Traces:
    """Traces to an OTLP/HTTP `endpoint`; none without one. `ratio` of the new ones are sampled.


    Raises TracesError when the extra `otel` is not installed.
    """
    if endpoint is None:
        return NoTraces()
    try:
        exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        resources = import_module("opentelemetry.sdk.resources")
        sdk = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        sampling = import_module("opentelemetry.sdk.trace.sampling")
    except ModuleNotFoundError as error:
        raise TracesError(
            f"CHASSIS_OTLP_ENDPOINT is set but {error.name} is not installed: "
            "depend on dockyard-chassis[otel]"
        ) from error
    provider = sdk.TracerProvider(
        sampler=sampling.ParentBased(sampling.TraceIdRatioBased(ratio)),
        resource=resources.Resource.create({"service.name": service, "service.version": version}),
    )
    provider.add_span_processor(
        export.BatchSpanProcessor(
            exporter.OTLPSpanExporter(
                endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS
            )
        )
    )
    return OtelTraces(provider.get_tracer("chassis"), messaging_system, provider.shutdown)

"""Trace context goes through; spans only when they are wanted."""

import asyncio
import subprocess
import sys
from threading import Event

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from chassis import Context, Reject
from chassis.telemetry.traces import NoTraces, OtelTraces, TracesError, open_traces
from tests.chassis.conftest import LogLines
from tests.chassis.pipeline import Pipeline, delivered
from tests.waiting import PATIENCE

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


async def open_account(event: UserSignedUp, ctx: Context) -> None:
    ctx.log.info("at work")
    ctx.publish(AccountOpened(account_id="a-1"))


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> OtelTraces:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTraces(provider.get_tracer("test"), "memory", provider.shutdown)


def spans(exporter: InMemorySpanExporter) -> dict[SpanKind, ReadableSpan]:
    return {span.kind: span for span in exporter.get_finished_spans()}


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys\n"
        "import chassis, chassis.cli\n"
        "from chassis.telemetry.traces import open_traces\n"
        "open_traces(None, 1.0, service='s', version='1', messaging_system='memory')\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_without_spans_the_trace_context_is_handed_on() -> None:
    line = Pipeline({UserSignedUp: [open_account]}, traces=NoTraces())
    await line.take(
        delivered(UserSignedUp(), headers={"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
    )
    envelope = line.bus.published[0].envelope
    assert (envelope.traceparent, envelope.tracestate) == (TRACEPARENT, "vendor=1")


async def test_without_a_trace_context_there_is_none_to_hand_on() -> None:
    line = Pipeline({UserSignedUp: [open_account]}, traces=NoTraces())
    await line.take(delivered(UserSignedUp()))
    assert line.bus.published[0].envelope.traceparent is None


async def test_the_spans_link_publisher_handler_and_what_the_handler_publishes(
    traces: OtelTraces, exporter: InMemorySpanExporter
) -> None:
    line = Pipeline({UserSignedUp: [open_account]}, traces=traces)
    await line.take(delivered(UserSignedUp(), "e-7", headers={"traceparent": TRACEPARENT}))
    consumer, producer = spans(exporter)[SpanKind.CONSUMER], spans(exporter)[SpanKind.PRODUCER]
    assert consumer.parent is not None
    assert f"{consumer.parent.span_id:016x}" == PARENT_ID
    assert producer.parent is not None
    assert producer.parent.span_id == consumer.context.span_id
    assert f"{producer.context.trace_id:032x}" == TRACE_ID
    sent = f"00-{TRACE_ID}-{producer.context.span_id:016x}-01"
    assert line.bus.published[0].envelope.traceparent == sent


async def test_spans_are_named_after_the_messaging_conventions(
    traces: OtelTraces, exporter: InMemorySpanExporter
) -> None:
    line = Pipeline({UserSignedUp: [open_account]}, traces=traces)
    await line.take(delivered(UserSignedUp(), "e-7"))
    consumer = spans(exporter)[SpanKind.CONSUMER]
    assert consumer.name == "process acme.signup.v1.UserSignedUp"
    assert consumer.attributes is not None
    assert dict(consumer.attributes) == {
        "messaging.system": "memory",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "acme.signup.v1.UserSignedUp",
        "messaging.message.id": "e-7",
        "chassis.handler": "open_account",
    }


async def test_a_new_trace_is_on_the_log_lines_of_its_handler(
    traces: OtelTraces, exporter: InMemorySpanExporter, log_lines: LogLines
) -> None:
    line = Pipeline({UserSignedUp: [open_account]}, traces=traces)
    await line.take(delivered(UserSignedUp()))
    trace_id = f"{spans(exporter)[SpanKind.CONSUMER].context.trace_id:032x}"
    assert [one["trace_id"] for one in log_lines()] == [trace_id]


async def test_a_failure_is_on_its_span(
    traces: OtelTraces, exporter: InMemorySpanExporter, log_lines: LogLines
) -> None:
    async def rejecting(event: UserSignedUp, ctx: Context) -> None:
        raise Reject("never")

    line = Pipeline({UserSignedUp: [rejecting]}, traces=traces)
    await line.take(delivered(UserSignedUp()))
    consumer = spans(exporter)[SpanKind.CONSUMER]
    assert consumer.status.status_code is StatusCode.ERROR
    assert SpanKind.PRODUCER not in spans(exporter)


def test_traces_that_are_wanted_but_not_installed_are_a_clear_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracesError, match=r"CHASSIS_OTLP_ENDPOINT .* dockyard-chassis\[otel\]"):
        open_traces(
            "http://collector:4318", 1.0, service="s", version="1", messaging_system="memory"
        )


async def test_traces_are_opened_with_an_endpoint() -> None:
    traces = open_traces(
        "http://127.0.0.1:9", 0.0, service="s", version="1", messaging_system="memory"
    )
    assert traces.enabled
    await traces.shutdown()


async def test_a_collector_that_does_not_answer_holds_up_neither_the_end_nor_the_event_loop(
    log_lines: LogLines,
) -> None:
    answers, beats = Event(), 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    tracer = TracerProvider().get_tracer("test")
    traces = OtelTraces(tracer, "memory", answers.wait, patience=0.05)
    beating = asyncio.create_task(beat())
    async with asyncio.timeout(PATIENCE):
        await traces.shutdown()
    beating.cancel()
    answers.set()
    assert beats > 1
    assert [line["event"] for line in log_lines()] == [
        "the collector did not take the last spans in time; they are lost"
    ]


async def test_the_last_spans_are_sent_before_the_end(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    traces = OtelTraces(provider.get_tracer("test"), "memory", provider.shutdown)
    with traces.publish("acme.signup.v1.UserSignedUp", "e-7", {}):
        pass
    assert not exporter.get_finished_spans()
    await traces.shutdown()
    assert [span.kind for span in exporter.get_finished_spans()] == [SpanKind.PRODUCER]

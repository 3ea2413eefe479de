"""What is counted, under which labels."""

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from prometheus_client import generate_latest

from chassis import Context
from chassis.telemetry.metrics import Metrics
from tests.chassis.pipeline import Pipeline, delivered
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("log_lines")

OPENED = "acme.billing.v1.AccountOpened"
TYPE = "acme.signup.v1.UserSignedUp"


async def open_account(event: UserSignedUp, ctx: Context) -> None:
    ctx.publish(AccountOpened(account_id="a-1"))


async def test_a_handled_event_leaves_its_duration_its_age_and_what_it_published() -> None:
    line = Pipeline({UserSignedUp: [open_account]})
    await line.take(delivered(UserSignedUp()))
    assert (
        line.metric("messaging_process_duration_seconds_count", type=TYPE, handler="open_account")
        == 1
    )
    assert line.metric("chassis_event_age_seconds_count", type=TYPE) == 1
    assert (
        line.metric("messaging_client_sent_messages_total", type=OPENED, outcome="confirmed") == 1
    )
    assert line.metric("messaging_client_operation_duration_seconds_count") == 1
    assert line.metric("chassis_inbox_claims_total", outcome="claimed") == 1


async def test_an_event_without_a_time_has_no_age() -> None:
    line = Pipeline({UserSignedUp: [open_account]})
    delivery = delivered(UserSignedUp())
    del delivery.headers["cloudEvents:time"]  # type: ignore[attr-defined]
    await line.take(delivery)
    assert line.metric("chassis_event_age_seconds_count", type=TYPE) == 0


async def test_an_event_from_the_future_has_age_zero() -> None:
    line = Pipeline({UserSignedUp: [open_account]})
    await line.take(delivered(UserSignedUp(), headers={"cloudEvents:time": "2999-01-01T00:00:00Z"}))
    assert line.metric("chassis_event_age_seconds_sum", type=TYPE) == 0


async def test_a_failure_is_counted_for_its_handler() -> None:
    async def failing(event: UserSignedUp, ctx: Context) -> None:
        raise OSError

    line = Pipeline({UserSignedUp: [failing]})
    await line.take(delivered(UserSignedUp()))
    assert line.metric("chassis_handler_failures_total", type=TYPE, handler="failing") == 1


async def test_what_the_bus_refused_is_counted_as_failed() -> None:
    line = Pipeline({UserSignedUp: [open_account]})
    line.bus.refusing = True
    running = line.begin(delivered(UserSignedUp()))
    await eventually(lambda: line.bus.tries > 2)
    line.bus.refusing = False
    await running
    failed = line.metric("messaging_client_sent_messages_total", type=OPENED, outcome="failed")
    assert failed == line.bus.tries - 1


def test_the_build_is_told() -> None:
    metrics = Metrics("billing-svc", "1.2.3", "0.1.0")
    labels = {"service": "billing-svc", "version": "1.2.3", "chassis": "0.1.0"}
    assert metrics.registry.get_sample_value("chassis_build_info", labels) == 1


def test_two_services_in_one_process_count_apart() -> None:
    first, second = Metrics("a", "1", "1"), Metrics("b", "1", "1")
    first.reconnected()
    assert first.registry.get_sample_value("chassis_bus_reconnects_total") == 1
    assert second.registry.get_sample_value("chassis_bus_reconnects_total") == 0


def test_acknowledgements_are_counted_by_the_batch() -> None:
    metrics = Metrics("a", "1", "1")
    metrics.acknowledged(50)
    assert metrics.registry.get_sample_value("chassis_bus_ack_batch_size_sum") == 50
    assert b"chassis_bus_ack_batch_size_count 1.0" in generate_latest(metrics.registry)

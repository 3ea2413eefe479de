"""What a team may say of a process, and what it is told of a mistake."""

import subprocess
import sys
from pathlib import Path

import pytest
from acme.orders.v1.order_pb2 import OrderPlaced, OrderState, PaymentTaken

from chassis import ProcessContext, Service, WakeUp
from chassis.registration import RegistrationError


def key(event: OrderPlaced) -> str:
    return event.order_id


async def step(state: OrderState, event: OrderPlaced, ctx: ProcessContext) -> None: ...


async def paid(state: OrderState, event: PaymentTaken, ctx: ProcessContext) -> None: ...


def test_a_service_takes_the_events_of_its_processes() -> None:
    service = Service("orders-svc", version="1")
    orders = service.process(OrderState, by=key)
    orders.starts(OrderPlaced)(step)
    orders.on(PaymentTaken)(paid)
    assert service.registry.types == {
        "acme.orders.v1.OrderPlaced",
        "acme.orders.v1.PaymentTaken",
    }


def test_wake_ups_are_taken_and_are_no_event_that_others_publish() -> None:
    service = Service("orders-svc", version="1")
    orders = service.process(OrderState, by=key)

    @orders.wakes("late")
    async def late(state: OrderState, wake: WakeUp, ctx: ProcessContext) -> None: ...

    assert service.registry.types_of("shared") == {"chassis.wakeups.of_orders_svc"}
    assert service.registry.types == frozenset()


def test_two_processes_with_one_state_need_names() -> None:
    service = Service("orders-svc", version="1")
    service.process(OrderState, by=key)
    with pytest.raises(RegistrationError, match="there is a process OrderState already"):
        service.process(OrderState, by=key)
    service.process(OrderState, by=key, name="returns")


def test_mistakes_are_told_at_registration() -> None:
    service = Service("orders-svc", version="1")
    orders = service.process(OrderState, by=key)
    orders.starts(OrderPlaced)(step)
    with pytest.raises(RegistrationError, match="has a start by acme"):
        orders.starts(OrderPlaced)(step)
    with pytest.raises(RegistrationError, match="missing='drop' must be one of 'retry', 'ignore'"):
        orders.on(PaymentTaken, missing="drop")(paid)  # type: ignore[arg-type]  # a mistake
    with pytest.raises(RegistrationError, match="must be an `async def` function"):
        orders.on(PaymentTaken)(print)  # type: ignore[arg-type]  # a mistake
    with pytest.raises(RegistrationError, match="by= must be a plain function"):
        service.process(OrderState, by="order_id", name="x")  # type: ignore[arg-type]  # a mistake


RIGHT = """
from chassis import ProcessContext, Service
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

service = Service("orders-svc")
orders = service.process(Timestamp, by=lambda event: "o-1")

@orders.starts(Duration)
async def placed(state: Timestamp, event: Duration, ctx: ProcessContext) -> None:
    ctx.publish(event)
    ctx.complete()
"""


WRONG = {
    "another_event": ("event: Duration", "event: Timestamp"),
    "another_state": ("state: Timestamp", "state: Duration"),
    "no_such_method": ("ctx.complete()", "ctx.finish()"),
}


def test_the_types_of_a_step_are_checked(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    for name, (right, wrong) in WRONG.items():
        (tmp_path / f"{name}.py").write_text(RIGHT.replace(right, wrong))
    chassis = Path(sys.modules["chassis"].__file__ or "").parents[1]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "."],
        cwd=tmp_path,
        env={"MYPYPATH": str(chassis), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = {line.partition(".py:")[0] for line in checked.stdout.splitlines() if "error:" in line}
    assert errors == set(WRONG), checked.stdout

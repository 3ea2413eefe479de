"""The workshop's services in Go, whose successors these are, had the defects below. Each has its test.

Most are here, one test each. What another test already proves with more than could be told here is in this table:

    defect                                                  test
    two replicas both take an event for new                 test_inbox_conformance.test_of_many_claims_at_once_exactly_one_is_given
    a mark that nobody owns can be overwritten              test_inbox_conformance.test_a_fence_that_was_taken_over_can_neither_extend_nor_complete
    personal data in the store                              test_inbox_conformance.test_the_store_holds_neither_the_event_key_nor_the_payload
    marks that never end                                    test_inbox_conformance.test_a_key_can_be_claimed_again_when_its_retention_is_over
    no bound on what one replica is given                   test_bus_conformance.test_at_most_prefetch_deliveries_are_unsettled
    a lost connection that nobody sees                      test_bus_conformance.test_a_lost_server_is_noticed_and_its_return_too
    nothing to replay                                       test_bus_conformance.test_replay_gives_the_message_to_its_own_service_only_as_a_first_attempt
    a consumer that is never cancelled                      test_bus_conformance.test_a_paused_bus_takes_nothing_until_it_is_resumed
    no end in order                                         test_cli.test_run_serves_until_sigterm_and_exits_0
    a delay that keeps the message in hand                  test_nats_bus.test_messages_that_wait_for_a_retry_hold_up_nobody
    a transient exchange                                    test_rabbitmq_server.test_a_service_has_a_quorum_queue_bound_to_exactly_its_types
    events published without a name or a store              test_rabbitmq_messages.test_an_event_is_durable_typed_and_named
    one channel to publish and to consume on                test_rabbitmq_server.test_a_replica_does_not_publish_on_the_channel_it_consumes_on
    an HTTP server without timeouts                         test_probes.test_a_connection_that_says_nothing_more_is_closed
    CI that runs what is not there                          test_repository.test_what_ci_runs_can_be_run

Those of its deployment, its Dockerfile and its vendored libraries cannot exist here.
"""  # noqa: E501 - names of tests cannot be broken

import ast
import asyncio
import re
from pathlib import Path

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context
from chassis.bus import Failure
from chassis.bus.rabbitmq.topology import shared_queue
from chassis.replica.lifecycle import STUCK_SECONDS, Lifecycle
from chassis.settings import VARIABLES
from tests.chassis.pipeline import Delivered, Handler, Pipeline, delivered
from tests.waiting import eventually

TESTS = Path(__file__).parents[1]
CHASSIS = TESTS.parent / "template/chassis/src/chassis"
EVENT = UserSignedUp(user_id="u-1", email="ada@example.org")


class Effects:
    """A handler whose effects are counted; it fails `failures` times before each."""

    def __init__(self, failures: int = 0) -> None:
        self.__name__ = "open_account"
        self.seen: list[str] = []
        self.attempts: list[int] = []
        self._failures = failures

    async def __call__(self, event: UserSignedUp, ctx: Context) -> None:
        self.attempts.append(ctx.attempt)
        if ctx.attempt <= self._failures:
            raise OSError("the mail gateway is away")
        await asyncio.sleep(0)  # others get their turn in the middle, as with any call
        self.seen.append(ctx.event_id)


def line_of(handler: Handler, **settings: object) -> Pipeline:
    return Pipeline({UserSignedUp: [handler]}, **settings)  # type: ignore[arg-type] # what the pipeline takes


# The message was acknowledged in the handler's first line.
async def test_an_event_is_not_acknowledged_while_its_handler_runs() -> None:
    outcomes_in_the_handler: list[list[str]] = []

    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        outcomes_in_the_handler.append(list(delivery.outcomes))

    delivery = delivered(EVENT)
    await line_of(open_account).take(delivery)
    assert outcomes_in_the_handler == [[]]
    assert delivery.outcome == "done"


# Every error was logged and then forgotten.
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Delivered({}, b""), id="no_event"),
        pytest.param(
            delivered(EVENT, headers={"cloudEvents:type": "acme.signup.v1.UserLeft"}),
            id="unknown_type",
        ),
        pytest.param(Delivered(delivered(EVENT).headers, b"\xff"), id="undecodable"),
    ],
)
async def test_what_cannot_be_handled_is_kept_with_the_reason(broken: Delivered) -> None:
    await line_of(Effects()).take(broken)
    assert broken.buried.reason
    assert broken.buried.message


async def test_an_event_whose_store_is_away_is_given_back() -> None:
    handler = Effects()
    line = line_of(handler)
    line.inbox.fail("claim")
    assert (await line.take(delivered(EVENT))).outcome == "hand_back"
    assert handler.seen == []


# A queue had no dead letters.
def test_a_queue_names_where_its_dead_letters_go() -> None:
    assert shared_queue("billing-svc").arguments["x-dead-letter-routing-key"] == "billing-svc.dead"


# Ten goroutines looked the event up, found nothing, and all took it for new.
async def test_ten_deliveries_of_an_event_at_once_have_one_effect() -> None:
    handler = Effects()
    line = line_of(handler)
    deliveries = [delivered(EVENT) for _ in range(10)]
    await asyncio.gather(*(line.take(delivery) for delivery in deliveries))
    assert handler.seen == ["e-1"]
    assert sorted(delivery.outcome for delivery in deliveries) == ["done"] + ["later"] * 9


# The event was marked as handled before its effect.
async def test_an_event_whose_handler_failed_is_not_taken_for_a_duplicate() -> None:
    handler = Effects(failures=1)
    line = line_of(handler)
    assert (await line.take(delivered(EVENT))).outcome == "later"
    assert (await line.take(delivered(EVENT, attempt=2))).outcome == "done"
    assert handler.seen == ["e-1"]


async def test_an_event_is_marked_as_handled_only_after_its_effect() -> None:
    calls_in_the_handler: list[list[str]] = []

    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        calls_in_the_handler.append(list(line.inbox.calls))

    line = line_of(open_account)
    await line.take(delivered(EVENT))
    assert calls_in_the_handler == [["claim"]]
    assert line.inbox.calls == ["claim", "complete"]


# The key was a hash of the event's content, so a second event with the same content was ignored.
async def test_two_events_that_say_the_same_are_two_events() -> None:
    handler = Effects()
    line = line_of(handler)
    await line.take(delivered(EVENT, "e-1"))
    await line.take(delivered(EVENT, "e-2"))
    assert handler.seen == ["e-1", "e-2"]


# Settings were read and never used.
@pytest.mark.parametrize("name", VARIABLES)
def test_every_setting_is_used(name: str) -> None:
    accessor = name.removesuffix("_url") if name in {"bus_url", "inbox_url"} else name
    sources = [path.read_text() for path in CHASSIS.rglob("*.py") if path.name != "settings.py"]
    assert any(re.search(rf"\bsettings\.{accessor}\b", source) for source in sources)


# The type was a number, and the one that was missing was zero: a sign-up.
@pytest.mark.parametrize("body", [b'{"user_id": "u-1"}', b'{"event_type": 0}', b"[]"])
async def test_an_object_of_json_is_no_event(body: bytes) -> None:
    handler = Effects()
    delivery = Delivered(delivered(EVENT).headers, body)
    await line_of(handler).take(delivery)
    assert delivery.buried.reason == "undecodable"
    assert handler.seen == []


async def test_an_event_without_a_type_is_never_handled() -> None:
    handler = Effects()
    headers = {
        name: value
        for name, value in delivered(EVENT).headers.items()
        if name != "cloudEvents:type"
    }
    delivery = Delivered(headers, EVENT.SerializeToString())
    await line_of(handler).take(delivery)
    assert delivery.buried.reason == "bad_envelope"
    assert handler.seen == []


# A panic ended the process, or was caught and forgotten.
@pytest.mark.parametrize(
    "panic", [RecursionError("too deep"), MemoryError(), AssertionError(), KeyError("user")]
)
async def test_a_handler_that_breaks_costs_an_attempt_and_nothing_else(panic: Exception) -> None:
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        if ctx.event_id == "e-1":
            raise panic

    line = line_of(open_account)
    assert (await line.take(delivered(EVENT, "e-1"))).outcome == "later"
    assert (await line.take(delivered(EVENT, "e-2"))).outcome == "done"


# The health check was a constant.
def test_health_follows_what_it_is_about() -> None:
    now, broker_there = 0.0, True
    lifecycle = Lifecycle(lambda: now)
    lifecycle.require("bus", lambda: broker_there)
    assert (lifecycle.liveness().ok, lifecycle.readiness().ok) == (True, True)
    broker_there = False
    assert (lifecycle.liveness().ok, lifecycle.readiness().ok) == (True, False)
    now = STUCK_SECONDS
    assert not lifecycle.liveness().ok


# There were no metrics.
async def test_what_becomes_of_an_event_is_counted() -> None:
    line = line_of(Effects(failures=1))
    await line.take(delivered(EVENT))
    await line.take(delivered(EVENT, attempt=2))
    await line.take(delivered(EVENT))
    assert [line.consumed(outcome) for outcome in ("retried", "done", "duplicate")] == [1, 1, 1]


# After the last attempt the message was neither acknowledged nor refused: it waited for the
# channel's end.
async def test_the_last_attempt_settles_the_message_too() -> None:
    delivery = delivered(EVENT, attempt=2)
    await line_of(Effects(failures=2), max_attempts=2).take(delivery)
    assert isinstance(delivery.buried, Failure)
    assert delivery.buried.reason == "attempts_exhausted"


# The retries of all messages together were counted, so that after a while none was tried again.
async def test_each_event_has_attempts_of_its_own() -> None:
    line = line_of(Effects(failures=100), max_attempts=3)
    deliveries = [delivered(EVENT, f"e-{number}", attempt=2) for number in range(20)]
    for delivery in deliveries:
        await line.take(delivery)
    assert {delivery.outcome for delivery in deliveries} == {"later"}


# A failing handler slept until its next attempt, and with it everything behind it.
async def test_a_retry_is_given_back_to_the_broker_and_not_waited_for() -> None:
    delivery = delivered(EVENT)
    line = line_of(Effects(failures=1), backoff=300.0)
    await line.take(delivery)
    assert delivery.outcome == "later"
    await eventually(lambda: line.metric("chassis_in_flight_messages") == 0)


# Of several batches that were to be published, all but the first were dropped.
async def test_everything_that_a_handler_publishes_goes_out() -> None:
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        for number in range(1_000):
            ctx.publish(AccountOpened(account_id=f"a-{number}"))

    line = line_of(open_account)
    await line.take(delivered(EVENT))
    assert [
        AccountOpened.FromString(message.body).account_id for message in line.bus.published
    ] == [f"a-{number}" for number in range(1_000)]


# The drain: what was in hand at the end of the process was lost.
async def test_what_is_in_hand_at_the_end_is_finished_or_given_back() -> None:
    go_on = asyncio.Event()

    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        if ctx.event_id == "quick":
            await go_on.wait()
        else:
            await asyncio.Event().wait()

    line = line_of(open_account)
    quick, slow = delivered(EVENT, "quick"), delivered(EVENT, "slow")
    running = [line.begin(quick), line.begin(slow)]
    await eventually(lambda: line.metric("chassis_in_flight_messages") == 2)
    draining = asyncio.create_task(line.consumer.drain(0.2))
    go_on.set()
    assert await draining == 1
    await asyncio.gather(*running, return_exceptions=True)
    assert (quick.outcome, slow.outcome) == ("done", "hand_back")


def _tests_of_the_table() -> list[str]:
    return re.findall(r"\b(test_\w+\.test_\w+)$", __doc__ or "", re.MULTILINE)


@pytest.mark.parametrize("name", _tests_of_the_table())
def test_the_tests_of_the_table_are_there(name: str) -> None:
    module, _, function = name.partition(".")
    (path,) = TESTS.rglob(f"{module}.py")
    functions = [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert function in functions


def test_the_table_is_read() -> None:
    assert len(_tests_of_the_table()) == (__doc__ or "").count("    test_")

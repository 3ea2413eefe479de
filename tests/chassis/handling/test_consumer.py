"""Each delivery meets one of five outcomes; nothing is handled, published or settled wrongly."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Reject, RetryAfter
from chassis.bus import BusUnavailable, Unpublishable
from chassis.bus.history import History
from chassis.contracts.envelope import EncodedEvent, format_time
from chassis.handling.attempts import BUSY_SECONDS
from chassis.inbox import InboxUnavailable, Lease, LeaseLost
from tests.chassis.conftest import LogLines
from tests.chassis.pipeline import Handler, Pipeline, delivered
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("log_lines")

SECRET = "payload-nobody-may-log"  # noqa: S105 - a payload, not a password
EVENT = UserSignedUp(user_id="u-1", email=SECRET)
BROKEN = OSError("the ledger is closed")
TYPE = "acme.signup.v1.UserSignedUp"


class Probe:
    """A handler that notes its calls and does what it is told."""

    def __init__(self, does: Handler | BaseException | None = None) -> None:
        self.__name__ = "open_account"
        self.calls: list[Context] = []
        self.does = does

    async def __call__(self, event: UserSignedUp, ctx: Context) -> None:
        self.calls.append(ctx)
        if isinstance(self.does, BaseException):
            raise self.does
        if self.does is not None:
            await self.does(event, ctx)


class Held:
    """A handler that runs until it is let go."""

    def __init__(self) -> None:
        self.__name__ = "open_account"
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = "not yet"

    async def __call__(self, event: UserSignedUp, ctx: Context) -> None:
        ctx.publish(AccountOpened(account_id="a-1"))
        self.started.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "returned"


async def never(event: UserSignedUp, ctx: Context) -> None:
    await asyncio.Event().wait()


async def publishes(event: UserSignedUp, ctx: Context) -> None:
    ctx.publish(AccountOpened(account_id="a-1"))
    ctx.publish(AccountOpened(account_id="a-2"))


def pipeline(*handlers: Handler, **settings: object) -> Pipeline:
    return Pipeline({UserSignedUp: list(handlers)}, **settings)  # type: ignore[arg-type]


@pytest.fixture
async def started() -> AsyncIterator[Callable[[Pipeline], Pipeline]]:
    """Starts pipelines, and drains them after the test."""
    pipelines: list[Pipeline] = []

    def start(pipeline: Pipeline) -> Pipeline:
        pipelines.append(pipeline)
        pipeline.consumer.start()
        return pipeline

    yield start
    for one in pipelines:
        await one.consumer.drain(0)


# Handled.


async def test_an_event_is_handled_completed_and_acknowledged() -> None:
    handler = Probe()
    line = pipeline(handler)
    assert (await line.take(delivered(EVENT))).outcome == "done"
    assert len(handler.calls) == 1
    assert line.inbox.calls == ["claim", "complete"]
    assert line.consumed("done") == 1


async def test_the_handler_knows_the_event_and_the_attempt() -> None:
    handler = Probe()
    await pipeline(handler).take(delivered(EVENT, "e-7", attempt=3))
    context = handler.calls[0]
    assert (context.event_id, context.attempt, context.handler) == ("e-7", 3, "open_account")
    assert context.time is not None


async def test_a_duplicate_is_acknowledged_and_not_handled() -> None:
    handler = Probe()
    line = pipeline(handler)
    await line.take(delivered(EVENT))
    assert (await line.take(delivered(EVENT))).outcome == "done"
    assert len(handler.calls) == 1
    assert line.consumed("duplicate") == 1


async def test_the_same_id_from_another_source_is_another_event() -> None:
    handler = Probe()
    line = pipeline(handler)
    await line.take(delivered(EVENT))
    await line.take(delivered(EVENT, headers={"cloudEvents:source": "another shop"}))
    assert len(handler.calls) == 2


async def test_an_id_that_comes_again_with_another_payload_is_dead() -> None:
    handler = Probe()
    line = pipeline(handler)
    await line.take(delivered(EVENT))
    again = await line.take(delivered(UserSignedUp(user_id="u-2")))
    assert (again.buried.reason, again.buried.handler) == ("payload_mismatch", "open_account")
    assert len(handler.calls) == 1


async def test_an_event_that_somebody_else_handles_comes_later_without_using_up_an_attempt(
    started: Callable[[Pipeline], Pipeline],
) -> None:
    handler = Held()
    line = started(pipeline(handler))
    first = delivered(EVENT)
    running = line.begin(first)
    await handler.started.wait()
    second = await line.take(delivered(EVENT))
    assert (second.outcome, second.counted) == ("later", False)
    assert (
        second.delay == BUSY_SECONDS
    )  # well before the lease is over: the first is mostly done by then
    assert line.consumed("busy") == 1
    handler.go_on.set()
    await running
    assert first.outcome == "done"


# Keys of the team's own.


async def test_events_with_the_same_key_are_handled_once_whatever_else_they_say() -> None:
    handler = Probe()
    line = pipeline(handler, keys={"open_account": lambda event: event.user_id})
    await line.take(delivered(UserSignedUp(user_id="u-1", email="old@example.org"), "e-1"))
    second = await line.take(delivered(UserSignedUp(user_id="u-1", email="new@example.org"), "e-2"))
    assert second.outcome == "done"
    assert len(handler.calls) == 1


async def test_the_same_key_in_events_of_two_types_is_two_keys() -> None:
    handler = Probe()
    keys = {"open_account": lambda _: "the key"}
    line = Pipeline({UserSignedUp: [handler], AccountOpened: [handler]}, keys=keys)
    await line.take(delivered(EVENT))
    await line.take(delivered(AccountOpened(account_id="a-1"), "e-2"))
    assert len(handler.calls) == 2


@pytest.mark.parametrize("key", [lambda event: event.no_such_field, lambda _: None, lambda _: ""])
async def test_an_event_whose_key_cannot_be_made_is_dead_before_any_claim(
    key: Callable[[object], object],
) -> None:
    line = pipeline(Probe(), keys={"open_account": key})
    failure = (await line.take(delivered(EVENT))).buried
    assert (failure.reason, failure.handler) == ("bad_key", "open_account")
    assert line.inbox.calls == []


# Several handlers of one type.


async def test_one_handlers_failure_repeats_only_that_handler() -> None:
    calls: list[str] = []

    async def failing(event: UserSignedUp, ctx: Context) -> None:
        calls.append("failing")
        if ctx.attempt == 1:
            raise BROKEN

    async def working(event: UserSignedUp, ctx: Context) -> None:
        calls.append("working")

    line = pipeline(failing, working)
    assert (await line.take(delivered(EVENT))).outcome == "later"
    assert (await line.take(delivered(EVENT, attempt=2))).outcome == "done"
    assert calls == ["failing", "working", "failing"]


async def test_a_handler_that_rejects_does_not_condemn_the_event_while_another_retries() -> None:
    async def rejecting(event: UserSignedUp, ctx: Context) -> None:
        raise Reject("never")

    async def flaky(event: UserSignedUp, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise BROKEN

    line = pipeline(rejecting, flaky)
    assert (await line.take(delivered(EVENT))).outcome == "later"
    assert (await line.take(delivered(EVENT, attempt=2))).buried.handler == "rejecting"


@pytest.mark.parametrize(("most", "last"), [(3, "dead"), (5, "later")])
async def test_an_event_that_fails_again_and_again_counts_as_one_failed_event(
    most: int, last: str
) -> None:
    line = pipeline(Probe(BROKEN), max_attempts=most)
    delivery = delivered(EVENT)
    for attempt in range(1, 4):
        delivery = delivered(EVENT, attempt=attempt)
        if attempt > 1:
            delivery.history = History(attempt, format_time(datetime.now(UTC)))
        await line.take(delivery)
    assert delivery.outcome == last
    assert line.metric("chassis_failed_events_total", type=TYPE, delivery="shared") == 1


async def test_an_event_that_is_rejected_at_once_counts_as_a_failed_event() -> None:
    line = pipeline(Probe(Reject("never")))
    await line.take(delivered(EVENT))
    assert line.metric("chassis_failed_events_total", type=TYPE, delivery="shared") == 1


# Dead before any claim.


@pytest.mark.parametrize(
    ("type_", "body", "reason"),
    [
        ("acme.signup.v1.UserSignedUp", b"\xff\xff", "undecodable"),
        ("acme.signup.v1.UserSignedUp", b"x" * 1001, "oversize"),
        ("acme.signup.v1.Other", b"", "unknown_type"),
        ("Other", b"", "unknown_type"),
        ("acme.signup.v2.UserSignedUp", b"", "unsupported_version"),
        (None, b"", "bad_envelope"),
    ],
)
async def test_what_can_never_be_handled_is_dead_before_any_claim(
    type_: str | None, body: bytes, reason: str
) -> None:
    line = pipeline(Probe())
    delivery = delivered(EVENT, headers={"cloudEvents:type": type_})
    delivery.body = body
    failure = (await line.take(delivery)).buried
    assert failure.reason == reason
    assert failure.message
    assert (failure.service, failure.version, failure.attempts) == ("billing-svc", "1.2.3", 0)
    assert line.inbox.calls == []
    assert line.metric("chassis_dead_letters_total", reason=reason) == 1


async def test_an_unknown_type_is_counted_under_one_label() -> None:
    line = pipeline(Probe())
    await line.take(delivered(EVENT, headers={"cloudEvents:type": "made.up.by.Somebody"}))
    assert line.consumed("dead", "unknown") == 1


# Failures of the handler.


async def test_a_failure_comes_later_with_backoff_and_counts() -> None:
    line = pipeline(Probe(BROKEN))
    delivery = await line.take(delivered(EVENT, attempt=3))
    assert (delivery.outcome, delivery.counted) == ("later", True)
    assert delivery.delay is not None
    assert 0 <= delivery.delay <= 32
    assert line.consumed("retried") == 1
    assert line.inbox.calls == ["claim", "release"]


async def test_the_last_attempt_that_fails_is_dead_with_all_that_is_known() -> None:
    line = pipeline(Probe(BROKEN))
    delivery = delivered(EVENT, attempt=5)
    delivery.history = replace(delivery.history, first_failure="2999-01-02T03:04:05Z")
    failure = (await line.take(delivery)).buried
    assert (failure.reason, failure.handler, failure.attempts) == (
        "attempts_exhausted",
        "open_account",
        5,
    )
    assert (failure.error, failure.message) == ("builtins.OSError", "the ledger is closed")
    assert failure.stack.rstrip().endswith("OSError: the ledger is closed")
    assert failure.first_failure == "2999-01-02T03:04:05Z"
    assert failure.last_failure


@pytest.mark.parametrize(
    ("answer", "outcome"), [(None, "done"), (BROKEN, "retried"), (Reject("no"), "dead")]
)
async def test_settling_on_a_connection_that_is_gone_is_neither_counted_nor_told(
    answer: Exception | None, outcome: str, log_lines: LogLines
) -> None:
    line = pipeline(Probe(answer) if answer else Probe())
    delivery = delivered(EVENT)
    delivery.lost = True
    await line.take(delivery)
    assert line.consumed(outcome) == 0
    assert [said for said in log_lines() if said["event"] == "dead letter"] == []


async def test_an_event_without_room_for_a_retry_is_dead_with_the_cause_of_its_failure() -> None:
    handler = Probe(BROKEN)
    line = pipeline(handler)
    delivery = delivered(EVENT)
    delivery.refusals["later"] = Unpublishable("its copy has no room")
    await line.take(delivery)
    failure = delivery.buried
    assert failure.reason == "oversize"
    assert repr(BROKEN) in failure.message
    assert "its copy has no room" in failure.message
    assert (line.consumed("dead"), line.consumed("retried")) == (1, 0)


async def test_a_rejected_event_is_dead_at_once_and_can_be_claimed_again_after_a_replay() -> None:
    handler = Probe(Reject("no such plan"))
    line = pipeline(handler)
    failure = (await line.take(delivered(EVENT))).buried
    assert (failure.reason, failure.message, failure.attempts) == ("rejected", "no such plan", 1)
    handler.does = None
    assert (await line.take(delivered(EVENT))).outcome == "done"


async def test_an_event_that_fails_for_too_long_is_dead() -> None:
    line = pipeline(Probe(BROKEN))
    delivery = delivered(EVENT, attempt=2)
    delivery.history = replace(delivery.history, first_failure="2020-01-01T00:00:00Z")
    assert (await line.take(delivery)).buried.reason == "expired"


async def test_a_handler_may_say_when_to_try_again() -> None:
    delivery = await pipeline(Probe(RetryAfter(90))).take(delivered(EVENT))
    assert (delivery.outcome, delivery.delay, delivery.counted) == ("later", 90, True)


async def test_the_stack_of_a_dead_letter_is_cut_to_4_kib_and_keeps_its_end() -> None:
    failure = (await pipeline(Probe(Reject("€" * 5000 + "the end"))).take(delivered(EVENT))).buried
    assert len(failure.stack.encode()) <= 4096
    assert failure.stack.rstrip().endswith("the end")
    assert len(failure.message.encode()) <= 4096


async def test_an_error_without_words_is_named() -> None:
    failure = (await pipeline(Probe(KeyError()), max_attempts=1).take(delivered(EVENT))).buried
    assert failure.message == "KeyError()"


async def test_a_handler_that_takes_too_long_is_cancelled_and_has_failed() -> None:
    line = pipeline(Probe(never), handler_timeout=0.001, max_attempts=1)
    failure = (await line.take(delivered(EVENT))).buried
    assert failure.error == "chassis.handling.attempts.HandlerTimeout"
    assert "CHASSIS_HANDLER_TIMEOUT_SECONDS" in failure.message


async def test_a_handler_that_swallows_its_timeout_has_failed_and_publishes_nothing() -> None:
    async def stubborn(event: UserSignedUp, ctx: Context) -> None:
        ctx.publish(AccountOpened(account_id="a-1"))
        try:
            await never(event, ctx)
        except asyncio.CancelledError:
            return

    line = pipeline(stubborn, handler_timeout=0.001)
    assert (await line.take(delivered(EVENT))).outcome == "later"
    assert line.bus.published == []


async def test_a_timeout_of_the_handlers_own_is_its_own() -> None:
    failure = (
        await pipeline(Probe(TimeoutError("the bank")), max_attempts=1).take(delivered(EVENT))
    ).buried
    assert (failure.error, failure.message) == ("builtins.TimeoutError", "the bank")


async def test_a_cancelled_call_inside_a_handler_is_a_failure_like_any_other() -> None:
    delivery = await pipeline(Probe(asyncio.CancelledError())).take(delivered(EVENT))
    assert (delivery.outcome, delivery.counted) == ("later", True)


# Publishing.


async def test_events_are_published_after_the_handler_and_before_completion() -> None:
    published: list[int] = []

    async def handler(event: UserSignedUp, ctx: Context) -> None:
        await publishes(event, ctx)
        published.append(len(line.bus.published))

    async def complete(lease: Lease) -> None:
        published.append(len(line.bus.published))

    line = pipeline(handler)
    line.inbox.complete = complete  # type: ignore[method-assign]
    await line.take(delivered(EVENT))
    assert published == [0, 2]


async def test_a_handler_that_raises_publishes_nothing() -> None:
    async def fails_at_the_end(event: UserSignedUp, ctx: Context) -> None:
        await publishes(event, ctx)
        raise BROKEN

    line = pipeline(fails_at_the_end)
    await line.take(delivered(EVENT))
    assert line.bus.published == []


async def test_every_attempt_publishes_the_same_ids_each_of_its_own() -> None:
    line = pipeline(publishes)
    line.inbox.broken["complete"] = BROKEN
    await line.take(delivered(EVENT))
    await line.take(delivered(EVENT, attempt=2))
    ids = [message.envelope.id for message in line.bus.published]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2
    assert {message.envelope.source for message in line.bus.published} == {"billing-svc"}


async def test_what_was_published_waits_for_the_broker_and_the_handler_is_not_called_again() -> (
    None
):
    handler = Probe(publishes)
    line = pipeline(handler)
    line.bus.refusing = True
    delivery = delivered(EVENT)
    running = line.begin(delivery)
    await eventually(lambda: line.bus.tries > 10)
    assert delivery.outcomes == []
    line.bus.refusing = False
    await running
    assert delivery.outcome == "done"
    assert len(handler.calls) == 1
    assert len({message.envelope.id for message in line.bus.published}) == 2


async def test_what_is_confirmed_is_not_published_again_with_what_is_not() -> None:
    line = pipeline(publishes)
    publish = line.bus.publish

    async def refuses_the_second(message: EncodedEvent) -> None:
        if line.bus.published and line.bus.tries < 5:
            line.bus.tries += 1
            raise BusUnavailable("its queue is full")
        await publish(message)

    line.bus.publish = refuses_the_second  # type: ignore[method-assign]
    assert (await line.take(delivered(EVENT))).outcome == "done"
    assert len(line.bus.published) == 2


async def test_a_lease_that_is_lost_after_the_handler_has_returned_cancels_nothing(
    started: Callable[[Pipeline], Pipeline],
) -> None:
    handler = Probe(publishes)
    line = started(pipeline(handler, lease=0.01))
    line.bus.refusing = True
    line.inbox.broken["extend"] = LeaseLost("the store forgot it")
    delivery = delivered(EVENT)
    running = line.begin(delivery)
    await eventually(lambda: line.metric("chassis_inbox_leases_lost_total") == 1)
    line.now += 61
    line.bus.refusing = False
    await running
    assert delivery.outcome == "done"
    assert len(handler.calls) == 1
    assert line.metric("chassis_inbox_leases_lost_total") == 1


async def test_an_event_too_large_to_publish_is_dead_at_once_and_nothing_is_published() -> None:
    async def verbose(event: UserSignedUp, ctx: Context) -> None:
        ctx.publish(AccountOpened(account_id="a-1"))
        ctx.publish(AccountOpened(account_id="x" * 1000))

    line = pipeline(verbose)
    failure = (await line.take(delivered(EVENT))).buried
    assert failure.reason == "unpublishable"
    assert failure.error == "chassis.publishing.size.TooLarge"
    assert "CHASSIS_MAX_BODY_BYTES" in failure.message
    assert line.bus.published == []


async def test_what_is_no_message_of_a_contract_cannot_be_published_by_any_attempt() -> None:
    async def mistaken(event: UserSignedUp, ctx: Context) -> None:
        ctx.publish({"account_id": "a-1"})  # type: ignore[arg-type]

    failure = (await pipeline(mistaken).take(delivered(EVENT))).buried
    assert failure.reason == "unpublishable"
    assert "dict is no message of a contract" in failure.message


# The lease.


async def test_a_lost_lease_cancels_the_handler_and_nothing_is_published_or_acknowledged(
    started: Callable[[Pipeline], Pipeline],
) -> None:
    handler = Held()
    line = started(pipeline(handler, lease=0.01))
    line.inbox.broken["extend"] = LeaseLost("taken over")
    delivery = await line.take(delivered(EVENT))
    assert handler.ended == "cancelled"
    assert (delivery.outcome, line.bus.published) == ("hand_back", [])
    assert "complete" not in line.inbox.calls
    assert line.metric("chassis_inbox_leases_lost_total") == 1
    assert line.consumed("handed_back") == 1


@pytest.mark.parametrize("reaction", ["returns", "raises"])
async def test_a_handler_that_swallows_the_loss_of_its_lease_still_publishes_nothing(
    started: Callable[[Pipeline], Pipeline], reaction: str
) -> None:
    async def stubborn(event: UserSignedUp, ctx: Context) -> None:
        ctx.publish(AccountOpened(account_id="a-1"))
        try:
            await never(event, ctx)
        except asyncio.CancelledError:
            if reaction == "raises":
                raise BROKEN from None

    line = started(pipeline(stubborn, lease=0.01, max_attempts=1))
    line.inbox.broken["extend"] = LeaseLost("taken over")
    assert (await line.take(delivered(EVENT))).outcome == "hand_back"
    assert line.bus.published == []
    assert "complete" not in line.inbox.calls


async def test_after_the_loss_of_a_lease_no_further_handler_runs(
    started: Callable[[Pipeline], Pipeline],
) -> None:
    second: list[str] = []

    async def afterwards(event: UserSignedUp, ctx: Context) -> None:
        second.append(ctx.event_id)

    line = started(pipeline(Held(), afterwards, lease=0.01))
    line.inbox.broken["extend"] = LeaseLost("taken over")
    assert (await line.take(delivered(EVENT))).outcome == "hand_back"
    assert second == []


async def test_a_lease_that_is_lost_at_completion_is_not_acknowledged() -> None:
    line = pipeline(Probe())
    line.inbox.broken["complete"] = LeaseLost("taken over")
    assert (await line.take(delivered(EVENT))).outcome == "hand_back"
    assert line.metric("chassis_inbox_leases_lost_total") == 1


async def test_a_lease_that_cannot_be_extended_until_it_is_over_is_lost(
    started: Callable[[Pipeline], Pipeline],
) -> None:
    handler = Held()
    line = started(pipeline(handler, lease=0.01))
    line.inbox.fail("extend")
    assert (await line.take(delivered(EVENT))).outcome == "hand_back"
    assert handler.ended == "cancelled"


# The store is away.


async def test_without_a_claim_nothing_is_handled_and_the_bus_pauses_until_the_store_is_back() -> (
    None
):
    handler = Probe()
    line = pipeline(handler)
    line.consumer.start()
    line.inbox.fail("claim", "ping")
    delivery = await line.take(delivered(EVENT))
    assert (delivery.outcome, handler.calls) == ("hand_back", [])
    assert not line.consumer.store_reachable
    assert line.metric("chassis_consumer_paused", reason="store") == 1
    assert line.metric("chassis_inbox_claims_total", outcome="unavailable") == 1
    await eventually(lambda: line.inbox.calls.count("ping") >= 3)
    assert line.bus.calls == ["pause"]
    line.inbox.broken.clear()
    await eventually(lambda: line.bus.calls == ["pause", "resume"])
    assert line.consumer.store_reachable
    assert line.metric("chassis_consumer_paused", reason="store") == 0
    assert (await line.take(delivered(EVENT))).outcome == "done"
    await line.consumer.drain(0)


async def test_after_a_long_outage_of_broker_and_store_no_other_replica_repeats_the_event(
    started: Callable[[Pipeline], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.handling.outage.GRACE_SECONDS", 0.1)
    handler, handler_of_other = Probe(publishes), Probe(publishes)
    line = started(pipeline(handler, lease=0.06))
    other = started(pipeline(handler_of_other, lease=0.06, shares_inbox_of=line))
    line.bus.refusing = True
    delivery = delivered(EVENT)
    running = line.begin(delivery)
    await eventually(lambda: line.bus.tries > 0)
    line.inbox.fail("claim", "extend", "ping")
    await eventually(lambda: not (line.consumer.store_reachable or other.consumer.store_reachable))
    line.now += 61  # the lease is over
    await asyncio.sleep(0.06)
    line.inbox.broken.clear()
    await eventually(lambda: other.consumer.store_reachable)
    assert (await other.take(delivered(EVENT))).outcome == "later"
    line.bus.refusing = False
    await running
    assert delivery.outcome == "done"
    assert (await other.take(delivered(EVENT))).outcome == "done"
    assert (len(handler.calls), handler_of_other.calls) == (1, [])


async def test_the_bus_is_paused_once_however_many_events_miss_the_store() -> None:
    line = pipeline(Probe())
    line.inbox.fail("claim", "ping")
    await asyncio.gather(*(line.take(delivered(EVENT, f"e-{number}")) for number in range(5)))
    await eventually(lambda: "ping" in line.inbox.calls)
    assert line.bus.calls == ["pause"]
    await line.consumer.drain(0)


async def test_completion_waits_for_the_store_while_the_lease_holds() -> None:
    line = pipeline(Probe())
    line.inbox.fail("complete", "ping")
    delivery = delivered(EVENT)
    running = line.begin(delivery)
    await eventually(lambda: line.inbox.calls.count("complete") >= 3)
    assert delivery.outcomes == []
    line.inbox.broken.clear()
    await running
    assert delivery.outcome == "done"
    await line.consumer.drain(0)


async def test_completion_outlasts_the_lease_while_the_store_is_away() -> None:
    handler = Probe()
    line = pipeline(handler)
    line.inbox.fail("complete", "ping")
    delivery = delivered(EVENT)
    running = line.begin(delivery)
    await eventually(lambda: "complete" in line.inbox.calls)
    line.now += 61
    line.inbox.broken.clear()
    await running
    assert delivery.outcome == "done"
    assert (await line.take(delivered(EVENT))).outcome == "done"
    assert line.metric("chassis_inbox_leases_lost_total") == 1
    assert len(handler.calls) == 1
    await line.consumer.drain(0)


async def test_completion_after_the_lease_waits_for_whoever_has_the_event() -> None:
    handler = Probe()
    line = pipeline(handler)
    line.inbox.fail("complete", "ping")
    delivery = delivered(EVENT)
    running = line.begin(delivery)
    await eventually(lambda: "complete" in line.inbox.calls)
    line.now += 61
    (key, digest), *_ = line.inbox.asked
    other = await line.inbox.claim(key, digest)
    assert isinstance(other, Lease)
    line.inbox.broken.clear()
    await eventually(lambda: len(line.inbox.asked) == 3)
    assert delivery.outcomes == []
    await line.inbox.complete(other)
    await running
    assert delivery.outcome == "done"
    assert len(handler.calls) == 1
    await line.consumer.drain(0)


async def test_completion_after_the_lease_is_not_for_an_event_of_another_payload() -> None:
    line = pipeline(Probe())
    line.inbox.fail("complete", "ping")
    delivery = delivered(EVENT)
    running = line.begin(delivery)
    await eventually(lambda: "complete" in line.inbox.calls)
    line.now += 61
    (key, _), *_ = line.inbox.asked
    assert isinstance(await line.inbox.claim(key, "another"), Lease)
    line.inbox.broken.clear()
    await running
    assert delivery.outcome == "hand_back"
    await line.consumer.drain(0)


async def test_completion_whose_answer_was_lost_is_done() -> None:
    line = pipeline(Probe())
    complete = line.inbox.complete

    async def completes_without_a_word(lease: Lease) -> None:
        await complete(lease)
        line.inbox.complete = complete  # type: ignore[method-assign]
        raise InboxUnavailable("the connection broke")

    line.inbox.complete = completes_without_a_word  # type: ignore[method-assign]
    assert (await line.take(delivered(EVENT))).outcome == "done"
    await line.consumer.drain(0)


async def test_a_drain_does_not_resume_the_bus_when_the_store_comes_back() -> None:
    line = pipeline(Probe())
    line.inbox.fail("claim", "ping")
    await line.take(delivered(EVENT))
    await eventually(lambda: "ping" in line.inbox.calls)
    await line.consumer.drain(0)
    line.inbox.broken.clear()
    for _ in range(10):
        await asyncio.sleep(0.001)
    assert "resume" not in line.bus.calls


# The drain.


async def test_a_drain_pauses_the_bus_and_takes_nothing_new() -> None:
    handler = Probe()
    line = pipeline(handler)
    assert await line.consumer.drain(0) == 0
    assert line.bus.calls == ["pause"]
    assert (await line.take(delivered(EVENT))).outcome == "hand_back"
    assert handler.calls == []


async def test_a_drain_lets_what_is_in_flight_finish() -> None:
    handler = Held()
    line = pipeline(handler)
    delivery = delivered(EVENT)
    line.begin(delivery)
    await handler.started.wait()
    draining = asyncio.create_task(line.consumer.drain(20))
    await eventually(lambda: line.bus.calls == ["pause"])
    handler.go_on.set()
    assert await draining == 0
    assert (delivery.outcome, handler.ended) == ("done", "returned")


async def test_at_its_deadline_a_drain_cancels_hands_back_and_gives_up_the_claim() -> None:
    handler = Held()
    line = pipeline(handler)
    delivery = delivered(EVENT)
    line.begin(delivery)
    await handler.started.wait()
    assert await line.consumer.drain(0) == 1
    assert (delivery.outcome, handler.ended, line.bus.published) == ("hand_back", "cancelled", [])
    assert line.inbox.calls == ["claim", "release"]
    assert line.metric("chassis_drain_abandoned_messages_total") == 1


async def test_a_handler_that_answers_the_drain_with_an_error_has_not_failed() -> None:
    entered = asyncio.Event()

    async def bitter(event: UserSignedUp, ctx: Context) -> None:
        entered.set()
        try:
            await never(event, ctx)
        except asyncio.CancelledError:
            raise BROKEN from None

    line = pipeline(bitter, max_attempts=1)
    delivery = delivered(EVENT)
    line.begin(delivery)
    await entered.wait()
    await line.consumer.drain(0)
    assert delivery.outcome == "hand_back"


# The bus is away, and defects.


async def test_a_dead_letter_that_the_bus_refuses_keeps_the_event_and_gives_up_the_claim() -> None:
    line = pipeline(Probe(Reject("never")))
    delivery = delivered(EVENT)
    delivery.refusals["dead"] = BusUnavailable("away")
    await line.take(delivery)
    assert (delivery.outcome, delivery.counted) == ("later", False)
    assert line.inbox.calls == ["claim", "release"]
    assert (await line.take(delivered(EVENT))).buried.reason == "rejected"


async def test_an_event_that_the_bus_takes_neither_as_dead_nor_for_later_is_handed_back() -> None:
    delivery = delivered(EVENT)
    delivery.refusals |= {"dead": BusUnavailable("away"), "later": BusUnavailable("away")}
    await pipeline(Probe(Reject("never"))).take(delivery)
    assert delivery.outcome == "hand_back"


@pytest.mark.parametrize(("attempt", "outcome"), [(1, "later"), (5, "dead")])
@pytest.mark.parametrize("operation", ["claim", "complete", "release"])
async def test_a_defect_of_the_chassis_never_leaves_an_event_unsettled_nor_repeats_it_for_ever(
    operation: str, attempt: int, outcome: str
) -> None:
    line = pipeline(Probe(BROKEN if operation == "release" else None))
    line.inbox.broken[operation] = RuntimeError("a defect")
    assert (await line.take(delivered(EVENT, attempt=attempt))).outcome == outcome


async def test_a_defect_in_reading_the_headers_never_leaves_an_event_unsettled() -> None:
    def defect() -> None:
        raise RuntimeError("a defect")

    delivery = delivered(EVENT, attempt=5)
    delivery.envelope = defect  # type: ignore[assignment, method-assign]
    assert (await pipeline(Probe()).take(delivery)).buried.message == "a defect"


# What is told of it.


async def test_log_lines_of_a_handler_carry_the_event_and_never_the_payload(
    log_lines: LogLines,
) -> None:
    async def talks(event: UserSignedUp, ctx: Context) -> None:
        ctx.log.info("talking", plan="basic")
        raise BROKEN

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await pipeline(talks).take(delivered(EVENT, "e-7", attempt=2, headers={"traceparent": trace}))
    talking, failed = log_lines()
    for line in (talking, failed):
        identity = (line["event_id"], line["type"], line["handler"], line["attempt"])
        assert identity == ("e-7", "acme.signup.v1.UserSignedUp", "talks", 2)
        assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert line["service"] == "billing-svc"
        assert SECRET not in str(line)
    assert (talking["event"], talking["plan"]) == ("talking", "basic")
    assert failed["error"].startswith("OSError at test_consumer.py:")


@pytest.mark.parametrize("max_attempts", [1, 5], ids=["dead", "retried"])
async def test_log_lines_after_a_defect_name_the_event_and_hold_no_payload(
    log_lines: LogLines, max_attempts: int
) -> None:
    line = pipeline(Probe(), max_attempts=max_attempts)
    line.inbox.broken["claim"] = RuntimeError("a defect")
    await line.take(delivered(EVENT, "e-7"))
    lines = log_lines()
    assert lines
    for one in lines:
        assert one["event_id"] == "e-7"
        assert SECRET not in str(one)


async def test_the_log_line_of_a_dead_letter_names_the_event(log_lines: LogLines) -> None:
    await pipeline(Probe(Reject("no such plan"))).take(delivered(EVENT, "e-7"))
    (line,) = log_lines()
    assert (line["event"], line["level"]) == ("dead letter", "error")
    assert (line["event_id"], line["handler"], line["reason"], line["why"]) == (
        "e-7", "open_account", "rejected", "chassis.retry.Reject",
    )  # fmt: skip


@pytest.mark.parametrize("max_attempts", [1, 5], ids=["dead", "retried"])
@pytest.mark.parametrize("error", [OSError, Reject], ids=["fails", "rejects"])
async def test_an_error_that_quotes_the_event_is_logged_without_its_message(
    log_lines: LogLines, error: type[Exception], max_attempts: int
) -> None:
    line = pipeline(Probe(error(f"cannot send to {SECRET}")), max_attempts=max_attempts)
    await line.take(delivered(EVENT))
    (said,) = log_lines()
    assert SECRET not in str(said)
    assert error.__qualname__ in str(said)


async def test_no_field_of_an_event_is_on_lines_that_are_not_about_it(log_lines: LogLines) -> None:
    line = pipeline(Probe())
    line.inbox.fail("complete", "ping")
    running = line.begin(delivered(EVENT))
    await eventually(lambda: line.bus.calls == ["pause"])
    line.inbox.broken.clear()
    await running
    await eventually(lambda: "resume" in line.bus.calls)
    back = next(one for one in log_lines() if "is back" in one["event"])
    assert "event_id" not in back
    await line.consumer.drain(0)


async def test_in_flight_is_what_is_taken_and_not_settled() -> None:
    handler = Held()
    line = pipeline(handler)
    running = line.begin(delivered(EVENT))
    await handler.started.wait()
    assert line.metric("chassis_in_flight_messages") == 1
    handler.go_on.set()
    await running
    assert line.metric("chassis_in_flight_messages") == 0

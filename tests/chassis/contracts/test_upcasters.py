"""Events of older versions reach the handlers of newer ones; wrong upcasters are refused."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1 import user_signed_up_pb2 as v1
from acme.signup.v2 import user_signed_up_pb2 as v2
from acme.signup.v3 import user_joined_pb2 as v3
from google.protobuf.message import Message

from chassis import Context, Reject, Service
from chassis.bus.memory import MemoryBus
from chassis.contracts.envelope import AMQP_PREFIX, to_headers
from chassis.contracts.event_types import event_without_version, to_event
from chassis.inbox import Lease, Refused
from chassis.inbox.memory import MemoryInbox
from chassis.replica.assemble import consumer_of, metrics_of
from chassis.service import RegistrationError
from chassis.settings import load
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import NoTraces
from chassis.testing import Harness
from tests.chassis.pipeline import Delivered, delivered

pytestmark = pytest.mark.usefixtures("log_lines")

V1, V2, V3 = (
    "acme.signup.v1.UserSignedUp",
    "acme.signup.v2.UserSignedUp",
    "acme.signup.v3.UserJoined",
)
ADA = v1.UserSignedUp(user_id="ada", email="ada@example.org")


def with_language(old: v1.UserSignedUp) -> v2.UserSignedUp:
    return v2.UserSignedUp(user_id=old.user_id, email=old.email, language="en")


def with_address(old: v2.UserSignedUp) -> v3.UserJoined:
    return v3.UserJoined(user_id=old.user_id, address=f"{old.language}:{old.email}")


class Team:
    """A service whose handlers, one for each of `handled`, note what they get."""

    def __init__(self, *handled: type[Message]) -> None:
        self.service = Service("billing-svc", version="1.2.3")
        self.got: list[tuple[str, Message]] = []
        for message in handled:
            self.service.on(message)(self.handler(message.DESCRIPTOR.full_name))

    def handler(self, type_: str) -> Callable[[Any, Context], Any]:
        async def note(event: Message, ctx: Context) -> None:
            self.got.append((type_, event))

        return note


class Watched(MemoryInbox):
    """An inbox that counts the claims."""

    claims = 0

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        self.claims += 1
        return await super().claim(key, digest)


async def test_a_handler_takes_an_older_version() -> None:
    team = Team(v2.UserSignedUp)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    async with Harness(team.service) as harness:
        assert await harness.send(ADA) == "done"
        assert await harness.send(v2.UserSignedUp(user_id="bob")) == "done"
    assert team.got == [(V2, with_language(ADA)), (V2, v2.UserSignedUp(user_id="bob"))]


async def test_upcasters_are_chained_whatever_their_order() -> None:
    team = Team(v3.UserJoined)
    team.service.upcast(v2.UserSignedUp, v3.UserJoined)(with_address)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    assert team.service.registry.types == {V1, V2, V3}
    async with Harness(team.service) as harness:
        assert await harness.send(ADA) == "done"
    assert team.got == [(V3, v3.UserJoined(user_id="ada", address="en:ada@example.org"))]


@pytest.mark.parametrize(
    "handled", [(v1.UserSignedUp, v3.UserJoined), (v2.UserSignedUp, v3.UserJoined)]
)
async def test_an_event_goes_to_the_first_version_on_its_way_that_has_handlers(
    handled: tuple[type[Message]],
) -> None:
    team = Team(*handled)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    team.service.upcast(v2.UserSignedUp, v3.UserJoined)(with_address)
    async with Harness(team.service) as harness:
        assert await harness.send(ADA) == "done"
    assert [type_ for type_, _ in team.got] == [handled[0].DESCRIPTOR.full_name]


async def test_the_handler_sees_the_type_that_was_sent() -> None:
    service, seen = Service("billing-svc"), []
    service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)

    @service.on(v2.UserSignedUp)
    async def note(event: v2.UserSignedUp, ctx: Context) -> None:
        seen.append((ctx.envelope.type, event.language))

    async with Harness(service) as harness:
        await harness.send(ADA)
    assert seen == [(V1, "en")]


async def test_an_older_version_again_is_a_duplicate() -> None:
    team = Team(v2.UserSignedUp)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    async with Harness(team.service) as harness:
        assert await harness.send(ADA, id="e-1") == "done"
        assert await harness.send(ADA, id="e-1") == "duplicate"
    assert len(team.got) == 1


async def test_one_fact_under_two_versions_is_handled_once_by_its_key() -> None:
    team = Team()
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    team.service.on(v2.UserSignedUp, key=lambda event: event.user_id)(team.handler(V2))
    async with Harness(team.service) as harness:
        assert await harness.send(ADA) == "done"
        assert await harness.send(v2.UserSignedUp(user_id="ada", language="fr")) == "duplicate"
        assert await harness.send(v2.UserSignedUp(user_id="bob")) == "done"
    assert len(team.got) == 2


async def test_one_fact_under_two_versions_is_handled_twice_without_a_key() -> None:
    team = Team(v2.UserSignedUp)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    async with Harness(team.service) as harness:
        assert [await harness.send(event) for event in (ADA, with_language(ADA))] == [
            "done",
            "done",
        ]


def test_what_versions_have_in_common() -> None:
    assert event_without_version(V1) == event_without_version(V2) == "acme.signup.UserSignedUp"
    assert event_without_version("UserSignedUp") == "UserSignedUp"


def nothing(old: v1.UserSignedUp) -> v2.UserSignedUp:
    return None  # type: ignore[return-value]


def itself(old: v1.UserSignedUp) -> v2.UserSignedUp:
    return old  # type: ignore[return-value]


def refuse(old: v1.UserSignedUp) -> v2.UserSignedUp:
    raise Reject("no language is known")


@pytest.mark.parametrize(
    ("upcaster", "says"),
    [
        (refuse, "Reject('no language is known')"),
        (nothing, "gave NoneType"),
        (itself, f"gave {V1}"),
    ],
)
async def test_what_cannot_be_upcast_is_dead_at_once_before_any_claim(
    upcaster: Callable[[v1.UserSignedUp], v2.UserSignedUp], says: str
) -> None:
    team = Team(v2.UserSignedUp)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(upcaster)
    inbox, metrics = Watched(60.0, 3600.0), metrics_of(team.service)
    delivery = await take(team.service, delivered(ADA), inbox, metrics)
    failure = delivery.buried
    assert failure.reason == "upcast_failed"
    assert failure.message.startswith(f"upcaster {upcaster.__name__} from {V1} to {V2}")
    assert says in failure.message
    assert delivery.body == ADA.SerializeToString()
    assert (inbox.claims, team.got) == (0, [])
    labels = {"type": V1, "outcome": "dead"}
    assert (
        metrics.registry.get_sample_value("messaging_client_consumed_messages_total", labels) == 1
    )


async def test_an_event_whose_upcaster_is_mended_is_handled_after_a_replay() -> None:
    languages: list[str] = []
    team = Team(v2.UserSignedUp)

    @team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)
    def with_first_language(old: v1.UserSignedUp) -> v2.UserSignedUp:
        return v2.UserSignedUp(user_id=old.user_id, language=languages[0])

    async with Harness(team.service) as harness:
        assert await harness.send(ADA, id="e-1") == "dead"
        languages.append("fr")
        assert await harness.send(ADA, id="e-1") == "done"
    assert team.got == [(V2, v2.UserSignedUp(user_id="ada", language="fr"))]


async def test_an_older_body_that_is_none_is_undecodable() -> None:
    team = Team(v2.UserSignedUp)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    headers = to_headers(to_event(ADA, source="shop").envelope, AMQP_PREFIX)
    async with Harness(team.service) as harness:
        assert await harness.send_raw(headers, b"\xff") == "dead"
        assert [letter.reason for letter in harness.dead_letters] == ["undecodable"]


@pytest.mark.parametrize(
    ("version", "reason"),
    [("v1beta1", "outdated_version"), ("v1", "outdated_version"), ("v3", "unsupported_version")],
)
async def test_a_version_that_nobody_takes_is_dead_with_a_reason_that_says_what_to_do(
    version: str, reason: str
) -> None:
    headers = to_headers(to_event(ADA, source="shop").envelope, AMQP_PREFIX)
    headers["cloudEvents:type"] = f"acme.signup.{version}.UserSignedUp"
    async with Harness(Team(v2.UserSignedUp).service) as harness:
        assert await harness.send_raw(headers, ADA.SerializeToString()) == "dead"
        assert [letter.reason for letter in harness.dead_letters] == [reason]


async def test_events_are_counted_under_the_type_that_was_sent() -> None:
    team = Team(v2.UserSignedUp)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    metrics = metrics_of(team.service)
    delivery = await take(team.service, delivered(ADA), MemoryInbox(60.0, 3600.0), metrics)
    assert delivery.outcome == "done"
    labels = {"type": V1, "outcome": "done"}
    assert (
        metrics.registry.get_sample_value("messaging_client_consumed_messages_total", labels) == 1
    )


async def take(
    service: Service, delivery: Delivered, inbox: MemoryInbox, metrics: Metrics
) -> Delivered:
    consumer = consumer_of(
        service, load({}), MemoryBus(), inbox, metrics=metrics, traces=NoTraces()
    )
    consumer.start()
    await consumer.on_delivery(delivery)
    await consumer.drain(0)
    return delivery


# Registration.


def untyped(old):  # type: ignore[no-untyped-def]
    return v2.UserSignedUp(user_id=old.user_id)


def of_any_message(old: Message) -> v2.UserSignedUp:
    return v2.UserSignedUp()


@pytest.mark.parametrize(
    "upcaster",
    [with_language, untyped, of_any_message, lambda old: v2.UserSignedUp(user_id=old.user_id)],
)
def test_a_function_of_the_older_event_is_an_upcaster_and_stays_what_it_is(
    upcaster: Callable[[Any], Any],
) -> None:
    assert Service("billing-svc").upcast(v1.UserSignedUp, v2.UserSignedUp)(upcaster) is upcaster


async def waits(old: v1.UserSignedUp) -> v2.UserSignedUp:
    return v2.UserSignedUp()


def takes_two(old: v1.UserSignedUp, ctx: Context) -> v2.UserSignedUp:
    return v2.UserSignedUp()


def takes_none() -> v2.UserSignedUp:
    return v2.UserSignedUp()


def of_another(old: AccountOpened) -> v2.UserSignedUp:
    return v2.UserSignedUp()


def to_another(old: v1.UserSignedUp) -> AccountOpened:
    return AccountOpened()


def to_nothing(old: v1.UserSignedUp) -> None: ...


@pytest.mark.parametrize(
    ("upcaster", "says"),
    [
        (waits, "must be a plain function, not `async def`"),
        (takes_two, "must take one argument, the older event"),
        (takes_none, "must take one argument, the older event"),
        (of_another, "is written for acme.billing.v1.AccountOpened"),
        (to_another, "returns acme.billing.v1.AccountOpened"),
        (to_nothing, "returns None"),
    ],
)
def test_a_function_that_can_be_no_upcaster_is_refused(
    upcaster: Callable[[Any], Any], says: str
) -> None:
    with pytest.raises(RegistrationError) as refused:
        Service("billing-svc").upcast(v1.UserSignedUp, v2.UserSignedUp)(upcaster)
    assert str(refused.value) == f"upcaster {upcaster.__name__} from {V1} to {V2} {says}"


def test_a_second_upcaster_from_one_version_is_refused() -> None:
    service = Service("billing-svc")
    service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    with pytest.raises(
        RegistrationError, match=r"to acme\.signup\.v3\.UserJoined is the second .* with_language"
    ):
        service.upcast(v1.UserSignedUp, v3.UserJoined)(
            lambda old: v3.UserJoined(user_id=old.user_id)
        )


def test_an_upcaster_to_an_older_version_is_refused() -> None:
    with pytest.raises(RegistrationError, match="leads to an older version"):
        Service("billing-svc").upcast(v2.UserSignedUp, v1.UserSignedUp)(
            lambda old: v1.UserSignedUp(user_id=old.user_id)
        )


def test_a_circle_is_refused() -> None:
    service = Service("billing-svc")
    with pytest.raises(RegistrationError, match="closes a circle"):
        service.upcast(v1.UserSignedUp, v1.UserSignedUp)(lambda old: old)
    service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    service.upcast(v2.UserSignedUp, v3.UserJoined)(with_address)
    with pytest.raises(
        RegistrationError, match=rf"closes a circle: its result is led back to {V3}"
    ):
        service.upcast(v3.UserJoined, v1.UserSignedUp)(
            lambda old: v1.UserSignedUp(user_id=old.user_id)
        )


async def test_an_upcaster_whose_result_nobody_takes_is_refused_at_start() -> None:
    team = Team(AccountOpened)
    team.service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    with pytest.raises(RegistrationError, match=rf"is of no use: no handler takes {V2}"):
        async with Harness(team.service):
            pass


async def test_a_limit_holds_for_all_versions_of_an_event_together() -> None:
    service = Service("billing-svc", version="1")
    service.upcast(v1.UserSignedUp, v2.UserSignedUp)(with_language)
    at_work: list[int] = [0, 0]  # now, and at most
    begun, go_on = asyncio.Event(), asyncio.Event()

    @service.on(v2.UserSignedUp, concurrency=1)
    async def greet(event: v2.UserSignedUp, ctx: Context) -> None:
        at_work[0] += 1
        at_work[1] = max(at_work)
        begun.set()
        await go_on.wait()
        at_work[0] -= 1

    async with Harness(service) as harness:
        sent = [
            asyncio.create_task(harness.send(event))
            for event in (v1.UserSignedUp(user_id="ann"), v2.UserSignedUp(user_id="bob"))
        ]
        await begun.wait()
        for _ in range(50):  # the other one has the time to begin, if it may
            await asyncio.sleep(0)
        go_on.set()
        assert await asyncio.gather(*sent) == ["done", "done"]
    assert at_work == [0, 1]

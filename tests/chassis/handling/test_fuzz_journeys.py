"""Headers and body of any message stay as they are through retry, dead letter and replay."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from chassis.bus import DeadLetter, Delivery, Verdict
from tests.chassis.bus.test_bus_conformance import FAILURE, SIGNED_UP, Replica
from tests.chassis.bus_labs import NatsLab, RabbitLab, nats_lab, rabbitmq_lab
from tests.waiting import eventually

BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x00" * 70_000, b"\r\n\r\n", bytes(range(256))]),
)

_AMQP_NAMES = st.one_of(
    st.text(min_size=1, max_size=20).filter(
        lambda name: name not in {"CC", "BCC"}
    ),  # the broker routes by these
    st.sampled_from(
        ["cloudEvents:id", "cloudEvents:type", "ce-id", "x-strange", "n" * 128, "Ünïcödé"]
    ),
)
_AMQP_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=32),  # Erlang has neither
    st.decimals(-10_000, 10_000, places=2),
    st.datetimes(
        datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis wants them naive
        datetime(2100, 1, 1),  # noqa: DTZ001
    ).map(lambda at: at.replace(microsecond=0, tzinfo=UTC)),
    st.text(max_size=50),
    st.just("x" * 3_000),
    st.binary(max_size=50).map(bytearray),  # the client writes no bytes
)
_AMQP_VALUES = st.recursive(
    _AMQP_LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(min_size=1, max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
AMQP_MESSAGES = st.tuples(st.dictionaries(_AMQP_NAMES, _AMQP_VALUES, max_size=6), BODIES)

_NATS_NAMES = st.one_of(
    st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True).filter(
        lambda name: not name.startswith("Nats-")
    ),
    st.sampled_from(
        [
            "ce-id",
            "ce-type",
            "ce-specversion",
            "chassis-attempt",
            "chassis-kept-x",
            "dead-letter-reason",
        ]
    ),
)
_NATS_VALUES = st.one_of(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=50),
    st.just("x" * 3_000),
)
NATS_MESSAGES = st.tuples(st.lists(st.tuples(_NATS_NAMES, _NATS_VALUES), max_size=6), BODIES)


@dataclass
class Journey:
    """A service that fails each message once, then gives it up; handles it when it is replayed."""

    as_it_is: Callable[[Delivery], tuple[object, bytes]]
    """What of a delivery must never change, fit to be compared."""
    replayed: bool = False
    stages: dict[str, dict[str, bytes]] = field(
        default_factory=lambda: {"first": {}, "retried": {}, "replayed": {}}
    )
    """Of each message that came, once even if it came again: what it was, and its body."""

    async def settle(self, delivery: Delivery) -> None:
        seen = repr(self.as_it_is(delivery))
        if self.replayed:
            self.stages["replayed"][seen] = delivery.body
            delivery.done()
        elif delivery.history.attempt == 1:
            self.stages["first"][seen] = delivery.body
            await delivery.later(0, counted=True)
        else:
            self.stages["retried"][seen] = delivery.body
            await delivery.dead(FAILURE)

    def begin(self) -> None:
        self.replayed = False
        for stage in self.stages.values():
            stage.clear()

    async def until(self, stage: str, count: int) -> None:
        await eventually(lambda: len(self.stages[stage]) >= count)

    def unchanged(self) -> Mapping[str, bytes]:
        """What all stages saw alike."""
        first, retried, replayed = self.stages.values()
        assert retried == first
        assert replayed == first
        return first


async def travel(
    journey: Journey, replica: Replica, publish: Callable[[], Awaitable[None]], count: int
) -> Mapping[str, bytes]:
    """Take `count` messages through all stages. Returns the messages, unchanged by any stage."""
    letters: list[DeadLetter] = []

    async def look(letter: DeadLetter) -> Verdict:
        letters.append(letter)
        return Verdict.KEEP

    async def replay(_: DeadLetter) -> Verdict:
        return Verdict.REPLAY

    journey.begin()
    await publish()
    await journey.until("retried", count)
    await replica.bus.sweep("billing-svc", look)
    while len(letters) < count:  # the last one may be on its way
        await asyncio.sleep(0.02)
        letters.clear()
        await replica.bus.sweep("billing-svc", look)
    assert {letter.failure for letter in letters} == {FAILURE}
    journey.replayed = True
    await replica.bus.sweep("billing-svc", replay)
    await journey.until("replayed", count)
    return journey.unchanged()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def canonical(value: object) -> object:
    """Headers to compare: tables have no order, and two types of byte strings mean the same."""
    if isinstance(value, Mapping):
        return [(name, canonical(value[name])) for name in sorted(value)]
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return bytes(value) if isinstance(value, bytearray) else value


def numbered(headers: Mapping[str, object], number: int) -> dict[str, object]:
    return {**headers, "x-number": number}


def test_fuzz_amqp_messages_stay_as_they_came_in(runner: asyncio.Runner, tmp_path: Path) -> None:
    journey = Journey(lambda delivery: (canonical(delivery.headers), delivery.body))
    stack = AsyncExitStack()

    async def open_all() -> tuple[RabbitLab, Replica]:
        lab = await stack.enter_async_context(rabbitmq_lab(tmp_path))
        assert isinstance(lab, RabbitLab)
        return lab, await stack.enter_async_context(Replica(lab, settle=journey.settle))

    lab, replica = runner.run(open_all())
    try:

        @settings(
            max_examples=15, phases=[Phase.generate]
        )  # no shrinking: a failure costs the patience of a test
        @given(st.lists(AMQP_MESSAGES, min_size=5, max_size=20))
        def messages_stay(messages: Sequence[tuple[Mapping[str, object], bytes]]) -> None:
            sent = [
                (numbered(headers, number), body) for number, (headers, body) in enumerate(messages)
            ]

            async def publish() -> None:
                for headers, body in sent:
                    await lab.publish_foreign(SIGNED_UP, headers, body)

            seen = runner.run(travel(journey, replica, publish, len(sent)))
            # Bodies alone: the headers are as the bare client wrote them.
            assert Counter(seen.values()) == Counter(body for _, body in sent)

        messages_stay()
    finally:
        runner.run(stack.aclose())


def test_fuzz_nats_messages_stay_as_they_came_in(runner: asyncio.Runner, tmp_path: Path) -> None:
    journey = Journey(lambda delivery: (delivery.original_lines(), delivery.body))  # type: ignore[attr-defined] # of NATS, with duplicates
    stack = AsyncExitStack()

    async def open_all() -> tuple[NatsLab, Replica]:
        lab = await stack.enter_async_context(nats_lab(tmp_path))
        return lab, await stack.enter_async_context(Replica(lab, settle=journey.settle))

    lab, replica = runner.run(open_all())
    try:

        @settings(
            max_examples=15, phases=[Phase.generate]
        )  # no shrinking: a failure costs the patience of a test
        @given(st.lists(NATS_MESSAGES, min_size=5, max_size=20))
        def messages_stay(messages: Sequence[tuple[Sequence[tuple[str, str]], bytes]]) -> None:
            sent = [
                (
                    [
                        f"{name}: {value}".encode()
                        for name, value in [*headers, ("x-number", number)]
                    ],
                    body,
                )
                for number, (headers, body) in enumerate(messages)
            ]

            async def publish() -> None:
                for lines, body in sent:
                    block = b"NATS/1.0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
                    await lab.publish_raw(f"events.{SIGNED_UP}", block, body)

            seen = runner.run(travel(journey, replica, publish, len(sent)))
            assert seen.keys() == set(map(repr, sent))

        messages_stay()
    finally:
        runner.run(stack.aclose())

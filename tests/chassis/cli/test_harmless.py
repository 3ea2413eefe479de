"""No command prints text of an event that a terminal would act on."""

import json
import re

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis.bus import BusUnavailable, DeadLetter, Failure
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.envelope import EncodedEvent, Envelope
from tests.chassis.cli.conftest import HANDLED, TYPE, Run, Said

ACTS = "\x1b]0;TITLE\x07\x1b[2J\x9b31m\x7f\r\u202e"
ESCAPE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def planted(field: str) -> str:
    """A value of `field` with its name as the marker, escape sequences, and a line that is none."""
    return f"MARK-{field}{ACTS}\nFAKE {field}"


def assert_harmless(said: Said, *fields: str) -> None:
    assert not ESCAPE.search(said.out + said.err)
    for field in fields:
        assert f"MARK-{field}" in said.out + said.err


@pytest.fixture
def dead(broker: MemoryBroker) -> MemoryBroker:
    """Two dead letters with something planted in every field, one of a known type."""
    failure = Failure(
        **{
            name: planted(name)
            for name in (
                "reason",
                "error",
                "message",
                "stack",
                "handler",
                "service",
                "version",
                "first_failure",
                "last_failure",
            )
        },
        attempts=1,
    )
    headers = {
        "cloudEvents:id": planted("header"),
        planted("name"): planted("value"),
        "odd": b"\x1b[",
    }
    body = AccountOpened(account_id=planted("body")).SerializeToString()
    broker.dead["billing-svc"] = {
        "aa": DeadLetter("aa", headers, body, TYPE, failure),
        "bb": DeadLetter("bb" + ACTS, headers, planted("body").encode(), planted("type"), failure),
    }
    return broker


IN_A_ROW = ("reason", "type", "last_failure", "message")


def test_dlq_list_in_a_pipe(run: Run, dead: MemoryBroker) -> None:
    said = run("dlq", "list")
    assert_harmless(said, *IN_A_ROW)
    assert len(said.out.splitlines()) == 4  # headings, two letters, their number


def test_dlq_list_in_a_terminal(
    run: Run, dead: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.cli.output.in_a_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "300")
    assert_harmless(run("dlq", "list"), *IN_A_ROW)


@pytest.mark.parametrize("id_", ["aa", "bb"])
def test_dlq_show(run: Run, dead: MemoryBroker, id_: str) -> None:
    said = run("dlq", "show", id_)
    assert_harmless(said, "reason", "error", "message", "stack", "handler", "version", "body")
    assert_harmless(said, "first_failure", "last_failure", "header", "name", "value")
    in_the_stack = "FAKE stack"
    assert [line for line in said.out.splitlines() if line.startswith("FAKE")] == [in_the_stack]


@pytest.mark.parametrize("command", [["list", "--json"], ["export", "-"]])
def test_lines_of_json(run: Run, dead: MemoryBroker, command: list[str]) -> None:
    said = run("dlq", *command)
    assert_harmless(said, *IN_A_ROW, "error", "handler")
    assert [json.loads(line)["type"] for line in said.out.splitlines()] == [TYPE, planted("type")]


def test_tail(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Chatty(MemoryBus):
        async def wait_ready(self) -> None:
            await super().wait_ready()
            for type_, body in (
                (HANDLED, UserSignedUp(user_id=planted("body")).SerializeToString()),
                (HANDLED, planted("raw").encode()),
                (planted("type"), b""),
            ):
                envelope = Envelope(planted("id"), planted("source"), type_, subject=planted("s"))
                await self.publish(EncodedEvent(envelope, body))
            self.broker.publish("garbage", {"cloudEvents:specversion": planted("version")}, b"")

    monkeypatch.setenv("CHASSIS_BUS_URL", "memory://")
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: Chatty())
    said = run("tail", "--limit", "4")
    assert_harmless(said, "body", "id", "source", "type", "version")
    assert not [line for line in said.out.splitlines() if line.startswith("FAKE")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", planted("arguments")],
        ["publish", f"acme.{planted('arguments')}"],
        ["publish", TYPE, "--json", json.dumps({planted("arguments"): 1})],
        ["publish", TYPE, "--id", planted("arguments")],
        ["dlq", "show", planted("arguments")],
        ["dlq", "list", "--reason", planted("arguments")],
        ["dlq", "list", "--older-than", planted("arguments")],
        ["load", planted("arguments")],
        ["load", "--metrics", planted("arguments")],
    ],
)
def test_what_a_user_pastes(run: Run, broker: MemoryBroker, arguments: list[str]) -> None:
    assert_harmless(run(*arguments), "arguments")


@pytest.mark.parametrize("arguments", [["publish", TYPE], ["load", "--count", "1"]])
def test_what_a_broker_says(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    class Full(MemoryBus):
        async def publish(self, message: EncodedEvent) -> None:
            raise BusUnavailable(planted("refusal"))

    monkeypatch.setenv("CHASSIS_BUS_URL", "memory://")
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: Full())
    assert_harmless(run(*arguments), "refusal")

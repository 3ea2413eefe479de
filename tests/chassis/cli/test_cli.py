"""The command of a service: what it prints, what it refuses, and with which exit code."""

import base64
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis.bus import BusUnavailable, DeadLetter, Failure, Subscription
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.envelope import EncodedEvent
from chassis.contracts.event_types import to_event
from tests.brokers.postgres import postgres_server
from tests.chassis.cli.conftest import HANDLED, TYPE, Run, Said, settings

SECRET = "hunter2"  # noqa: S105 - a secret nobody keeps


def one_line(said: Said) -> str:
    """What a mistake looks like: exit code 2, one line on stderr, nothing else."""
    assert (said.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert line.startswith("billing-svc: ")
    return line


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# config


def test_config_shows_every_setting_and_marks_what_was_set(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHASSIS_MAX_ATTEMPTS", "7")
    said = run("config")
    assert said.code == 0
    assert "* CHASSIS_MAX_ATTEMPTS=7" in said.out
    assert "  CHASSIS_PREFETCH=100" in said.out


def test_config_shows_what_holds_for_each_handler(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHASSIS_MAX_ATTEMPTS", "7")
    said = run("config", "--handlers")
    assert said.code == 0
    assert said.out.splitlines() == [
        "  open_account of acme.signup.v1.UserSignedUp",
        "      timeout_seconds=30 attempts=7 backoff_seconds=1 backoff_max_seconds=300",
    ]


def test_config_masks_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHASSIS_BUS_URL", f"amqp://user:{SECRET}@rabbitmq")
    monkeypatch.setenv("CHASSIS_INBOX_URL", f"postgresql://pg/db?password={SECRET}")
    said = run("config")
    assert "CHASSIS_BUS_URL=amqp://user:***@rabbitmq" in said.out
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize(
    "command",
    [["config"], ["run"], ["dev"], ["publish", TYPE], ["tail"], ["load"], ["dlq", "list"]],
)
def test_a_wrong_setting_is_one_line_whatever_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("CHASSIS_PREFETCH", "0")
    assert "CHASSIS_PREFETCH='0'" in one_line(run(*command))


@pytest.mark.parametrize("command", [["publish", TYPE], ["tail"], ["load"], ["dlq", "list"]])
def test_without_a_broker_to_go_to_a_command_says_so(run: Run, command: list[str]) -> None:
    assert "CHASSIS_BUS_URL is not set and no `billing-svc dev` is running" in one_line(
        run(*command)
    )


@pytest.mark.parametrize("command", [["publish", TYPE], ["tail"], ["load"], ["dlq", "list"]])
@pytest.mark.parametrize("scheme", ["amqp", "nats"])
def test_a_broker_that_does_not_answer_is_named_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str], scheme: str
) -> None:
    port = closed_port()
    monkeypatch.setattr("chassis.cli.session.CONNECT_SECONDS", 0.05)
    monkeypatch.setenv("CHASSIS_BUS_URL", f"{scheme}://user:{SECRET}@127.0.0.1:{port}")
    said = run(*command)
    assert (said.code, said.out) == (2, "")
    *why, line = said.err.splitlines()
    assert (
        line == f"billing-svc: no broker answers at {scheme}://user:***@127.0.0.1:{port} "
        "(CHASSIS_BUS_URL)"
    )
    assert {json.loads(one)["level"] for one in why} <= {"warning"}
    assert SECRET not in said.err


# publish


def test_publish_publishes_what_it_is_told(run: Run, broker: MemoryBroker) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({TYPE})))
    said = run("publish", TYPE, "--json", '{"account_id": "a-1"}', "--id", "e-1")
    assert (said.code, said.out) == (0, f"published {TYPE} e-1\n")
    (item,) = queue.items
    assert AccountOpened.FromString(item.body).account_id == "a-1"
    assert (item.headers["cloudEvents:id"], item.headers["cloudEvents:source"]) == (
        "e-1",
        "billing-svc-cli",
    )


def test_publish_takes_a_bare_name_that_is_unique(run: Run, broker: MemoryBroker) -> None:
    assert f"published {TYPE} " in run("publish", "AccountOpened").out


def test_publish_many_gives_each_an_id_of_its_own(run: Run, broker: MemoryBroker) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({TYPE})))
    assert run("publish", TYPE, "--id", "e", "--count", "3").out == f"published 3 of {TYPE}\n"
    assert sorted(str(item.headers["cloudEvents:id"]) for item in queue.items) == [
        "e-1",
        "e-2",
        "e-3",
    ]


def test_publish_reads_the_body_from_stdin(
    run: Run, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({TYPE})))
    monkeypatch.setattr("sys.stdin.read", lambda: '{"account_id": "a-1"}', raising=False)
    assert run("publish", TYPE, "--json", "-").code == 0
    assert AccountOpened.FromString(queue.items[0].body).account_id == "a-1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["acme.no.v1.Such"], "'acme.no.v1.Such' is not a type of this service's contracts"),
        (["Such"], "no contract defines a message Such"),
        (
            ["UserSignedUp"],
            "acme.signup.v1.UserSignedUp, acme.signup.v2.UserSignedUp: give the full type",
        ),
        ([TYPE, "--json", "{"], f"not JSON for {TYPE}"),
        ([TYPE, "--json", '{"no_such": 1}'], f"not JSON for {TYPE}"),
        ([TYPE, "--json", json.dumps({"account_id": "x" * 600_000})], "CHASSIS_MAX_BODY_BYTES"),
    ],
)
def test_publish_refuses_what_is_no_event(
    run: Run, broker: MemoryBroker, arguments: list[str], says: str
) -> None:
    assert says in one_line(run("publish", *arguments))


def test_publish_refuses_a_count_below_one(run: Run, broker: MemoryBroker) -> None:
    said = run("publish", TYPE, "--count", "0")
    assert said.code == 2
    assert "--count" in said.err


# load


def test_load_publishes_what_the_service_handles_with_bodies_of_their_own(
    run: Run, broker: MemoryBroker
) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({HANDLED})))
    said = run("load", "--count", "20", "--json")
    assert said.code == 0, said.err
    figures = json.loads(said.out)
    assert (figures["published"], figures["not_confirmed"]) == (20, 0)
    assert figures["published_per_second"] > 0
    assert "handled" not in figures
    assert len({UserSignedUp.FromString(item.body).user_id for item in queue.items}) == 20
    assert len({item.headers["cloudEvents:id"] for item in queue.items}) == 20


def test_load_without_json_is_a_table(run: Run, broker: MemoryBroker) -> None:
    out = run("load", "--count", "3").out
    assert re.search(r"^published +3$", out, re.MULTILINE)
    assert re.search(r"^confirm seconds p99 +\d", out, re.MULTILINE)


def test_load_takes_several_types_in_turn(run: Run, broker: MemoryBroker) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({TYPE, HANDLED})))
    assert run("load", TYPE, HANDLED, "--count", "6").code == 0
    assert sorted(item.type for item in queue.items) == [TYPE] * 3 + [HANDLED] * 3


def test_load_puts_the_number_of_the_event_into_the_body_it_was_given(
    run: Run, broker: MemoryBroker
) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({TYPE})))
    assert run("load", TYPE, "--count", "3", "--body", '{"account_id": "a-{n}"}').code == 0
    assert sorted(AccountOpened.FromString(item.body).account_id for item in queue.items) == [
        "a-1",
        "a-2",
        "a-3",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Such"], "no contract defines a message Such"),
        ([TYPE, "--body", "{"], f"not JSON for {TYPE}"),
        ([TYPE, "--body", json.dumps({"account_id": "x" * 600_000})], "CHASSIS_MAX_BODY_BYTES"),
        ([TYPE, HANDLED, "--body", "{}"], "--body is for one TYPE, not for 2"),
        (["--metrics", "http://127.0.0.1:1/metrics"], "no metrics at http://127.0.0.1:1/metrics"),
        (
            ["--metrics", f"http://user:{SECRET}@127.0.0.1:1/metrics"],
            "http://user:***@127.0.0.1:1/metrics",
        ),
        (["--metrics", "nonsense"], "no metrics at nonsense"),
    ],
)
def test_load_publishes_nothing_when_it_refuses(
    run: Run, broker: MemoryBroker, arguments: list[str], says: str
) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({TYPE, HANDLED})))
    line = one_line(run("load", *arguments))
    assert says in line
    assert SECRET not in line
    assert not queue.items


@pytest.mark.parametrize("option", ["--count", "--seconds", "--rate", "--in-flight", "--patience"])
def test_load_refuses_a_number_that_is_none(run: Run, broker: MemoryBroker, option: str) -> None:
    said = run("load", option, "0")
    assert said.code == 2
    assert option in said.err


@pytest.mark.parametrize(
    "url",
    ["amqp://user:hunter2@rabbitmq:5672", "nats://127.0.0.1:4222,nats://user:hunter2@nats:4222"],
)
def test_load_leaves_a_broker_elsewhere_alone_unless_that_is_meant(
    run: Run, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({HANDLED})))
    monkeypatch.setenv("CHASSIS_BUS_URL", url)
    line = one_line(run("load", "--count", "3"))
    assert "is not on this machine" in line
    assert HANDLED in line
    assert "--yes" in line
    assert SECRET not in line
    assert not queue.items
    assert run("load", "--count", "3", "--yes").code == 0
    assert len(queue.items) == 3


@pytest.mark.parametrize("url", ["amqp://localhost", "nats://127.0.0.5:4222", "nats://[::1]:4222"])
def test_load_takes_this_machine_for_granted(
    run: Run, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CHASSIS_BUS_URL", url)
    assert run("load", "--count", "1").code == 0


def test_load_writes_a_page_of_what_it_measured(
    run: Run, broker: MemoryBroker, tmp_path: Path
) -> None:
    report = tmp_path / "load.html"
    said = run("load", "--count", "20", "--rate", "2000", "--json", "--report", str(report))
    assert said.code == 0, said.err
    figures = json.loads(said.out)
    assert figures["offered_per_second"] == 2000
    assert "Every event was confirmed" in report.read_text()


def test_load_refuses_a_report_in_no_folder_before_it_publishes(
    run: Run, broker: MemoryBroker, tmp_path: Path
) -> None:
    queue = broker.queue_for(Subscription("billing-svc", frozenset({HANDLED})))
    line = one_line(run("load", "--report", str(tmp_path / "no/load.html")))
    assert "there is no folder" in line
    assert not queue.items


def test_load_finds_the_knee(run: Run, broker: MemoryBroker) -> None:
    found = json.loads(run("load", "--knee", "--rate", "50", "--seconds", "0.1", "--json").out)
    rates = [step["offered_per_second"] for step in found["steps"]]
    assert rates[0] == 50
    assert found["knee_per_second"] == max(
        (step["offered_per_second"] for step in found["steps"] if step["kept"]), default=None
    )
    assert not all(step["kept"] for step in found["steps"])


def test_load_with_knee_and_count_is_refused(run: Run, broker: MemoryBroker) -> None:
    assert "leave --count out" in one_line(run("load", "--knee", "--count", "5"))


def test_load_says_so_when_the_broker_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(MemoryBus):
        async def publish(self, message: EncodedEvent) -> None:
            raise BusUnavailable("no room")

    monkeypatch.setenv("CHASSIS_BUS_URL", "memory://")
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: Full())
    said = run("load", "--count", "3", "--json")
    assert said.code == 1
    figures = json.loads(said.out)
    assert (figures["published"], figures["not_confirmed"], figures["last_refusal"]) == (
        0,
        3,
        "no room",
    )


# tail


class Chatty(MemoryBus):
    """A bus on which somebody publishes as soon as it is ready."""

    async def wait_ready(self) -> None:
        await super().wait_ready()
        for number in (1, 2, 3):
            await self.publish(
                to_event(AccountOpened(account_id=f"a-{number}"), source="shop", id_=f"e-{number}")
            )
        self.broker.publish("garbage", {}, b"\xff")


def test_tail_shows_events_decoded_until_its_limit(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHASSIS_BUS_URL", "memory://")
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: Chatty())
    said = run("tail", "--limit", "2")
    assert said.code == 0
    assert f"{TYPE}  e-1  from shop" in said.out
    assert '"account_id": "a-2"' in said.out
    assert "a-3" not in said.out


def test_tail_shows_what_is_no_event_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHASSIS_BUS_URL", "memory://")
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: Chatty())
    assert (
        "not a CloudEvent (header cloudEvents:specversion is missing"
        in run("tail", "--limit", "4").out
    )


def test_tail_refuses_a_type_it_does_not_know(run: Run, broker: MemoryBroker) -> None:
    assert "no contract defines a message Such" in one_line(run("tail", "Such"))


# dlq


@pytest.fixture
def letters(broker: MemoryBroker) -> MemoryBroker:
    message = to_event(AccountOpened(account_id="a-1"), source="shop", id_="e-1")
    failed = Failure(
        reason="rejected",
        error="chassis.retry.Reject",
        message="[/b] no such plan",
        stack="Traceback …",
        handler="open_account",
        attempts=1,
        service="billing-svc",
        last_failure="2026-01-02T03:04:05Z",
    )
    garbage = Failure(
        "bad_envelope", message="header is missing", service="billing-svc", last_failure=""
    )
    broker.dead["billing-svc"] = {
        "aa11": DeadLetter("aa11", {"cloudEvents:id": "e-1"}, message.body, TYPE, failed),
        "aa22": DeadLetter("aa22", {"odd": 7}, b"\xff", "", garbage),
    }
    return broker


def test_dlq_list_shows_what_is_there(run: Run, letters: MemoryBroker) -> None:
    said = run("dlq", "list")
    assert said.code == 0
    assert "aa11" in said.out
    assert "rejected" in said.out
    assert "2 dead letters" in said.out


def test_dlq_list_in_a_pipe_has_whole_values(run: Run, letters: MemoryBroker) -> None:
    long = Failure("rejected", message="x" * 300, service="billing-svc", last_failure="2026-01-02")
    letters.dead["billing-svc"] = {"c" * 40: DeadLetter("c" * 40, {}, b"", TYPE, long)}
    heading, row, _ = run("dlq", "list").out.splitlines()
    assert heading.split()[:3] == ["id", "reason", "type"]
    assert row.split() == ["c" * 40, "rejected", TYPE, "0", "2026-01-02", "x" * 300]


def test_dlq_list_in_a_terminal_is_as_wide_as_the_terminal(
    run: Run, letters: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Failure("rejected", message="x" * 300, service="billing-svc", last_failure="2026-01-02")
    letters.dead["billing-svc"] = {"c" * 40: DeadLetter("c" * 40, {}, b"", TYPE, long)}
    monkeypatch.setattr("chassis.cli.output.in_a_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    out = run("dlq", "list").out
    assert max(map(len, out.splitlines())) == 120
    assert out.count("x") == 300
    assert "c" * 12 in out
    assert "c" * 13 not in out


def test_dlq_list_as_json_is_one_object_a_line(run: Run, letters: MemoryBroker) -> None:
    lines = [
        json.loads(line)
        for line in run("dlq", "list", "--json", "--reason", "rejected").out.splitlines()
    ]
    assert [(line["id"], line["message"], line["attempts"]) for line in lines] == [
        ("aa11", "[/b] no such plan", 1)
    ]


def test_dlq_show_decodes_the_event(run: Run, letters: MemoryBroker) -> None:
    out = run("dlq", "show", "aa11").out
    assert '"account_id": "a-1"' in out
    assert "cloudEvents:id: e-1" in out
    assert "Traceback …" in out


def test_dlq_show_shows_what_cannot_be_decoded(run: Run, letters: MemoryBroker) -> None:
    assert r"b'\xff'" in run("dlq", "show", "aa22").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "zz"], "no dead letter's id begins with 'zz'"),
        (["show", "aa"], "2 ids begin with 'aa'"),
        (["replay"], "say which: `billing-svc dlq replay ID`"),
        (["discard"], "say which: `billing-svc dlq discard ID`"),
        (["list", "--older-than", "soon"], "'soon' is not a duration"),
        (["list", "--reason", "nosuch"], "it is one of attempts_exhausted, bad_envelope"),
    ],
)
def test_dlq_refuses_what_is_not_clear(
    run: Run, letters: MemoryBroker, arguments: list[str], says: str
) -> None:
    assert says in one_line(run("dlq", *arguments))
    assert len(letters.dead["billing-svc"]) == 2


def test_dlq_export_writes_all_there_is_and_changes_nothing(
    run: Run, letters: MemoryBroker, tmp_path: Path
) -> None:
    before = dict(letters.dead["billing-svc"])
    said = run("dlq", "export", "dead.jsonl")
    assert (said.code, said.out) == (0, "exported 2\n")
    first, second = map(json.loads, (tmp_path / "dead.jsonl").read_text("utf-8").splitlines())
    assert (first["id"], first["headers"], first["event"]) == (
        "aa11",
        {"cloudEvents:id": "e-1"},
        {"account_id": "a-1"},
    )
    assert (first["reason"], first["stack"], first["service"]) == (
        "rejected",
        "Traceback …",
        "billing-svc",
    )
    assert base64.b64decode(first["body"]) == before["aa11"].body
    assert (second["headers"], second["body"], second["event"]) == ({"odd": 7}, "/w==", None)
    assert letters.dead["billing-svc"] == before


@pytest.mark.parametrize(
    "which",
    [
        ["aa1"],
        ["--type", TYPE],
        ["--reason", "rejected"],
        ["--older-than", "1h"],
        ["--reason", "rejected", "aa"],
    ],
)
def test_dlq_export_takes_every_filter(run: Run, letters: MemoryBroker, which: list[str]) -> None:
    (line,) = run("dlq", "export", "-", *which).out.splitlines()
    assert json.loads(line)["id"] == "aa11"


def test_dlq_export_refuses_to_overwrite_before_it_asks_the_broker(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "dead.jsonl").write_text("of yesterday", "utf-8")
    assert "dead.jsonl is there already" in one_line(run("dlq", "export", "dead.jsonl"))


def test_dlq_export_without_a_broker_leaves_no_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("chassis.cli.session.CONNECT_SECONDS", 0.05)
    monkeypatch.setenv("CHASSIS_BUS_URL", f"nats://127.0.0.1:{closed_port()}")
    said = run("dlq", "export", "dead.jsonl")
    assert said.code == 2
    assert "no broker answers" in said.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_dlq_replay_replays_what_is_chosen(run: Run, letters: MemoryBroker) -> None:
    queue = letters.queue_for(Subscription("billing-svc", frozenset({TYPE})))
    assert run("dlq", "replay", "--all", "--dry-run").out == "would replay 2\n"
    assert not queue.items
    assert run("dlq", "replay", "--reason", "rejected").out == "replayed 1\n"
    assert len(queue.items) == 1
    assert list(letters.dead["billing-svc"]) == ["aa22"]


def test_dlq_discard_asks_first(
    run: Run, letters: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.confirm", _answered_no)
    assert run("dlq", "discard", "aa11").code == 1
    assert len(letters.dead["billing-svc"]) == 2
    assert run("dlq", "discard", "aa11", "--yes").out == "discarded 1\n"
    assert list(letters.dead["billing-svc"]) == ["aa22"]


def _answered_no(question: str, *, abort: bool) -> None:
    import typer  # noqa: PLC0415 - what typer.confirm itself raises

    assert question == "Discard 1 dead letters for good?"
    assert abort
    raise typer.Abort


# run


def test_run_serves_until_sigterm_and_exits_0(tmp_path: Path, generated_contracts: Path) -> None:
    code = (
        "from acme.signup.v1.user_signed_up_pb2 import UserSignedUp\n"
        "from chassis import Service\n"
        "from chassis.cli import main\n"
        "service = Service('billing-svc', version='1.2.3')\n"
        "@service.on(UserSignedUp)\n"
        "async def open_account(event, ctx): ...\n"
        "main(service)\n"
    )
    environment = settings(
        CHASSIS_BUS_URL="memory://",
        CHASSIS_HTTP_HOST="127.0.0.1",
        CHASSIS_HTTP_PORT="0",
        PYTHONPATH=str(generated_contracts),
    )
    command = [sys.executable, "-c", code, "run"]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        try:
            assert process.stderr is not None
            events = []
            for line in process.stderr:
                events.append(json.loads(line)["event"])
                if events[-1] == "ready":
                    process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert events == ["starting", "ready", "stopping", "drained", "stopped"]


def test_run_without_a_broker_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.telemetry.logs.configure", lambda *_: None)
    assert "CHASSIS_BUS_URL is not set" in one_line(run("run"))


def test_migrate_says_what_it_did(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with postgres_server(tmp_path) as (url, _):
        monkeypatch.setenv("CHASSIS_INBOX_URL", url)
        said = run("migrate").out
        assert said.startswith("applied 1: the inbox\napplied 2: the outbox\n")
        assert said.endswith("\nthe tables are up to date\n")
        assert run("migrate").out == "the tables are up to date\n"


def test_migrate_without_its_database_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "CHASSIS_INBOX_URL", f"postgresql://user:{SECRET}@127.0.0.1:{closed_port()}/billing"
    )
    line = one_line(run("migrate"))
    assert "PostgreSQL at 127.0.0.1" in line
    assert SECRET not in line


def test_migrate_has_nothing_to_do_for_an_inbox_without_tables(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHASSIS_INBOX_URL", "memory://")
    assert run("migrate") == Said(0, "nothing to migrate: this inbox has no tables\n", "")


def test_relay_needs_an_inbox_with_an_outbox(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.telemetry.logs.configure", lambda *_: None)
    monkeypatch.setenv("CHASSIS_BUS_URL", "memory://")
    assert "CHASSIS_INBOX_URL=postgresql://" in one_line(run("relay"))


def test_a_client_library_that_is_not_installed_is_one_line() -> None:
    code = (
        "import sys; sys.modules['aiormq'] = None; "
        "from chassis import Service, cli; cli.main(Service('billing-svc'))"
    )
    command = [sys.executable, "-c", code, "dlq", "list"]
    environment = settings(CHASSIS_BUS_URL="amqp://rabbitmq")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    line = one_line(Said(done.returncode, done.stdout, done.stderr))
    assert "amqp:// needs the package 'aiormq'" in line
    assert "dockyard-chassis[rabbitmq]" in line


def test_help_names_the_commands(run: Run) -> None:
    out = run("--help").out
    assert all(
        command in out
        for command in ("run", "dev", "relay", "migrate", "publish", "tail", "dlq", "config")
    )

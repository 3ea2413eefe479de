"""The commands, queries, settings and links of a runbook work at three in the morning."""

import os
import re
import shlex
import sys
from pathlib import Path

import psycopg
import pytest
import typer
import yaml

import chassis.cli
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.service import Service
from chassis.settings import PREFIX, VARIABLES
from tests.brokers.binaries import find
from tests.brokers.nats import nats
from tests.brokers.postgres import postgres_server
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.monitoring.rules import Rules, exported, metrics_of
from tests.template import lab

_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRAM = re.MULTILINE | re.DOTALL
_OWN_COMMAND = re.compile(r"(?:-- |`)billing-svc (?P<arguments>[^|>`\n]+)")


@pytest.fixture(scope="module")
def runbooks(rendered: Path) -> dict[str, str]:
    return {
        path.stem: path.read_text("utf-8") for path in (rendered / "docs/runbooks").glob("*.md")
    }


def blocks(text: str, language: str) -> list[str]:
    return [
        block["text"].strip() for block in _BLOCK.finditer(text) if block["language"] == language
    ]


def test_every_alert_has_one_and_every_one_an_alert(rules: Rules, runbooks: dict[str, str]) -> None:
    assert runbooks.keys() == rules.alerts.keys()


def test_a_runbook_says_what_it_means_how_to_look_and_how_to_mend(
    rules: Rules, runbooks: dict[str, str]
) -> None:
    for name, text in runbooks.items():
        assert re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE) == [
            name,
            "What it means",
            "How to look",
            "How to mend",
            "What changed last",
            "Whom to call",
        ]
        assert f"Severity: {rules.alerts[name].labels['severity']}." in text
        assert blocks(text, "promql") or blocks(text, "sh"), name


def test_the_services_own_commands_exist_with_these_options(runbooks: dict[str, str]) -> None:
    app = typer.main.get_command(chassis.cli.app(Service("billing-svc", version="0")))
    commands = [
        found["arguments"] for text in runbooks.values() for found in _OWN_COMMAND.finditer(text)
    ]
    assert any(command.startswith("dlq replay") for command in commands)
    for command in commands:
        arguments, at = shlex.split(command), app
        while hasattr(at, "commands"):
            at = at.commands[arguments.pop(0)]
        at.make_context(at.name, arguments)  # raises for an option or an argument that there is not


def test_the_queries_can_be_asked_and_ask_for_what_there_is(
    rules: Rules, runbooks: dict[str, str], tmp_path: Path
) -> None:
    queries = [query for text in runbooks.values() for query in blocks(text, "promql")]
    known = exported() | {"up"} | rules.records.keys()
    for query in queries:
        assert metrics_of(query), query
        assert metrics_of(query) <= known, query
        assert 'job="billing-svc"' in query
    recorded = [
        {"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)
    ]
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]})
    )
    lab.run([find("promtool"), "check", "rules", "rules.yaml"], tmp_path)


def test_a_command_says_in_which_namespace_and_waits_for_nothing_in_the_background(
    runbooks: dict[str, str],
) -> None:
    for name, text in runbooks.items():
        for block in blocks(text, "sh"):
            for asked in re.finditer(r"\b(?:kubectl|helm) (?P<rest>.*)", block):
                assert asked["rest"].startswith("--namespace NAMESPACE "), f"{name}: {asked[0]}"
            assert "deploy/billing-svc" not in block, f"{name}: the release decides on the name"
            assert not re.search(r"(?<!&)&(?!&)", block), (
                f"{name}: what comes next does not wait for it"
            )
            if "--previous" in block:
                assert "--ignore-errors" in block, f"{name}: most pods have no previous container"
        if "kubectl" in text:
            assert "NAMESPACE is the alert's label `namespace`" in text, name
        assert ("DEPLOYMENT is" in text) == ("deploy/DEPLOYMENT" in text), name


@pytest.mark.skipif(
    os.environ.get("ALERTS") != "long", reason="each command starts an Erlang node: make alerts"
)
def test_the_commands_on_rabbitmqs_side_run_there() -> None:
    node = shared_rabbitmq()
    programs = find("rabbitmqctl").parent
    with node.vhost("runbooks"):
        for line in on_the_brokers_side("rabbitmq"):
            program, *arguments = shlex.split(line.replace("VHOST", "runbooks"))
            lab.run([programs / program, *arguments], Path.cwd(), os.environ | node.server.env)


def test_the_commands_on_natss_side_run_there(tmp_path: Path) -> None:
    lines = on_the_brokers_side("curl")
    with nats(tmp_path, monitored=True) as server:
        monitoring = server.monitoring.removeprefix("http://")
        for line in lines:
            lab.run(shlex.split(line.replace("MONITORING", monitoring)), tmp_path)


def on_the_brokers_side(program: str) -> list[str]:
    """Lines of all runbooks, whichever broker a service has."""
    runbooks = Path(__file__).parents[2] / "template/docs/runbooks"
    text = "\n".join(path.read_text("utf-8") for path in runbooks.iterdir())
    lines = {line for line in text.splitlines() if line.startswith(program)}
    lines = {line for line in lines if "localhost" not in line}
    assert len(lines) > 2
    return sorted(lines)


def test_what_a_stopped_pod_said_is_looked_for_where_it_still_is(runbooks: dict[str, str]) -> None:
    assert all(
        "--previous" in block
        for block in blocks(runbooks["DrainOverrun"], "sh")
        if "kubectl" in block
    )
    assert "where the cluster keeps logs" in " ".join(runbooks["DrainOverrun"].split())


async def test_the_outbox_can_be_asked_and_an_event_given_up_from_within_a_pod(
    runbooks: dict[str, str], tmp_path: Path
) -> None:
    asking, giving_up = (
        found["program"]
        for found in re.finditer(
            r"<<'END'\n(?P<program>.*?)^END$", runbooks["OutboxTooOld"], _PROGRAM
        )
    )
    insert = """
        INSERT INTO chassis_outbox (source, headers, body, failures, error)
        VALUES ('billing-svc', '{"cloudEvents:type": "acme.A"}', '', 3, 'too large'),
            ('billing-svc', '{}', '', 0, NULL)
    """
    with postgres_server(tmp_path) as (url, _):
        inbox = PostgresInbox(url, 60, 60)
        await inbox.migrate()
        await inbox.close()
        with psycopg.connect(url) as database:
            database.execute(insert)
        env = os.environ | {"CHASSIS_INBOX_URL": url}
        assert (
            lab.run([sys.executable, "-c", asking], tmp_path, env)
            == "billing-svc 1 acme.A 3 too large\n"
        )
        lab.run([sys.executable, "-c", giving_up, "billing-svc", "1"], tmp_path, env)
        with psycopg.connect(url) as database:
            assert database.execute("SELECT position FROM chassis_outbox").fetchall() == [(2,)]


def test_the_settings_and_pages_named_exist(runbooks: dict[str, str]) -> None:
    settings = {variable.name for variable in VARIABLES.values()}
    for name, text in runbooks.items():
        assert set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", text)) <= settings, name
        assert {
            link.removesuffix(".md") for link in re.findall(r"\]\(([^)]+)\)", text)
        } <= runbooks.keys(), name

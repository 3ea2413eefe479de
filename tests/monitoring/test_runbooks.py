"""What a runbook tells somebody to do at three in the morning can be done: commands, queries, settings, links."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

import chassis.cli
from chassis.service import Service
from chassis.settings import PREFIX, Settings
from tests.brokers.binaries import find
from tests.monitoring.rules import Rules, exported, metrics_of
from tests.template import lab

_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_OWN_COMMAND = re.compile(r"(?:-- |`)billing-svc (?P<arguments>[^|>`\n]+)")


@pytest.fixture(scope="module")
def runbooks(rendered: Path) -> dict[str, str]:
    return {path.stem: path.read_text("utf-8") for path in (rendered / "docs/runbooks").glob("*.md")}


def blocks(text: str, language: str) -> list[str]:
    return [block["text"].strip() for block in _BLOCK.finditer(text) if block["language"] == language]


def test_every_alert_has_one_and_every_one_an_alert(rules: Rules, runbooks: dict[str, str]) -> None:
    assert runbooks.keys() == rules.alerts.keys()


def test_a_runbook_says_what_it_means_how_to_look_and_how_to_mend(rules: Rules, runbooks: dict[str, str]) -> None:
    for name, text in runbooks.items():
        assert re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE) == [
            name,
            "What it means",
            "How to look",
            "How to mend",
        ]
        assert f"Severity: {rules.alerts[name].labels['severity']}." in text
        assert blocks(text, "promql") or blocks(text, "sh"), name


def test_the_services_own_commands_exist_with_these_options(runbooks: dict[str, str]) -> None:
    app = typer.main.get_command(chassis.cli.app(Service("billing-svc", version="0")))
    commands = [found["arguments"] for text in runbooks.values() for found in _OWN_COMMAND.finditer(text)]
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
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    lab.run([find("promtool"), "check", "rules", "rules.yaml"], tmp_path)


def test_the_settings_and_pages_named_exist(runbooks: dict[str, str]) -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    for name, text in runbooks.items():
        assert set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", text)) <= settings, name
        assert {link.removesuffix(".md") for link in re.findall(r"\]\(([^)]+)\)", text)} <= runbooks.keys(), name

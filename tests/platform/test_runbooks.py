"""Every alert has a page. Its instructions are carried out here on the real component."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from tests.brokers.binaries import find
from tests.brokers.nats import nats
from tests.brokers.postgres import postgres_server
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.brokers.redis import redis_server
from tests.platform.rules import COMPONENTS, PLATFORM, every_rule, rules_of
from tests.platform.series import named, unknown
from tests.template import lab

RUNBOOKS = {path.stem: path.read_text("utf-8") for path in (PLATFORM / "runbooks").glob("*.md")}
_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXEC = "kubectl --namespace NAMESPACE exec POD -- "
_RAW = "kubectl get --raw '/api/v1/namespaces/NAMESPACE/pods/POD:8222/proxy"

LONG = pytest.mark.skipif(
    os.environ.get("ALERTS") != "long", reason="each command starts an Erlang node: make alerts"
)

Run = Callable[[str], None]


def blocks(text: str, language: str) -> list[str]:
    return [b["text"].strip() for b in _BLOCK.finditer(text) if b["language"] == language]


def commands_of(component: str) -> set[str]:
    """What the runbooks of a component do within a pod, or ask of its monitoring port."""
    lines = {
        line
        for name in rules_of(component)
        for block in blocks(RUNBOOKS[name], "sh")
        for line in block.splitlines()
    }
    inside = {line.removeprefix(_EXEC) for line in lines if line.startswith(_EXEC)}
    asked = {line.removeprefix(_RAW).rstrip("'") for line in lines if line.startswith(_RAW)}
    return inside | asked


def run(command: list[str | Path], env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Run]:
    node = shared_rabbitmq()
    programs = find("rabbitmqctl").parent
    with node.vhost("runbooks"):

        def do(command: str) -> None:
            program, *arguments = shlex.split(command.replace("VHOST", "runbooks"))
            run([programs / program, *arguments], node.server.env)

        yield do


@contextmanager
def nats_server(folder: Path) -> Iterator[Run]:
    with nats(folder, monitored=True) as server:

        def do(path: str) -> None:
            with urlopen(server.monitoring + path, timeout=10) as answer:  # noqa: S310 - http
                assert answer.status == 200
                assert answer.read().startswith(b"{")

        yield do


@contextmanager
def redis(folder: Path) -> Iterator[Run]:
    with redis_server(folder) as (url, _):

        def do(command: str) -> None:
            program, *arguments = shlex.split(command)
            run([find(program), "-u", url, "-e", *arguments])

        yield do


@contextmanager
def postgresql(folder: Path) -> Iterator[Run]:
    with postgres_server(folder) as (url, _):

        def do(command: str) -> None:
            program, *arguments = shlex.split(command)
            run([find(program), "--dbname", url, *arguments])

        yield do


@pytest.mark.parametrize(
    "component", [pytest.param(rabbitmq, marks=LONG), nats_server, redis, postgresql]
)
def test_the_commands_of_the_runbooks_run_against_the_real_component(
    component: Callable[[Path], Iterator[Run]], tmp_path: Path
) -> None:
    commands = commands_of(component.__name__.removesuffix("_server"))
    assert len(commands) > 4
    with component(tmp_path) as do:  # type: ignore[attr-defined]
        for command in sorted(commands):
            do(command)


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert RUNBOOKS.keys() == every_rule().keys()


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_page_says_what_it_means_how_to_look_and_how_to_mend(component: str) -> None:
    for name, rule in rules_of(component).items():
        text = RUNBOOKS[name]
        headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
        assert headings == [name, "What it means", "How to look", "How to mend"]
        assert f"Severity: {rule['labels']['severity']}. " in text
        assert blocks(text, "promql")


def test_a_page_explains_the_names_in_its_commands_and_links_to_pages_that_exist() -> None:
    for name, text in RUNBOOKS.items():
        prose = _BLOCK.sub("", text)
        for block in blocks(text, "sh"):
            for word in set(re.findall(r"\b[A-Z_]{3,}\b", block)) & {
                "NAMESPACE",
                "POD",
                "VHOST",
                "DEPLOYMENT",
                "JOB_NAME",
                "SCALEDOBJECT",
            }:
                assert re.search(rf"\b{word}\b", prose), f"{name}: {word}"
        links = {link.removesuffix(".md") for link in re.findall(r"\]\(([^)]+)\)", text)}
        assert links <= RUNBOOKS.keys(), name


def test_the_queries_can_be_asked_and_ask_for_what_there_is(tmp_path: Path) -> None:
    queries = [query for text in RUNBOOKS.values() for query in blocks(text, "promql")]
    for query in queries:
        assert named(query), query
        assert unknown(query) == set(), query
    recorded = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]})
    )
    lab.run([find("promtool"), "check", "rules", "rules.yaml"], tmp_path)

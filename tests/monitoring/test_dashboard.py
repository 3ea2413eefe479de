"""The dashboard keeps the rules of Grafana's own linter, and matches monitoring/.

The linter is a Go program; its rules are these tests. Its two LogQL rules hold by themselves: the
dashboard has no logs.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.brokers.binaries import find
from tests.monitoring.rules import exported, metrics_of
from tests.template import lab

ROOT = Path(__file__).parents[2]
FILE = ROOT / "template/deploy/chart/files/dashboard.json"
OF_THE_FLEET = ROOT / "platform/chart/files/dashboards/fleet.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"bytes", "ops", "percentunit", "s", "short"}  # those of Grafana's that are in use here


def test_the_file_is_the_one_that_the_program_writes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitoring.dashboard", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.filterwarnings(
    "ignore:Prefer using dashboardv2:DeprecationWarning"
)  # decision 0019: not everywhere yet
def test_a_changed_file_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from monitoring import dashboard  # noqa: PLC0415 - takes as long as all other tests here

    monkeypatch.setattr(dashboard, "ROOT", tmp_path)
    monkeypatch.setattr(dashboard, "FILE", tmp_path / "dashboard.json")
    dashboard.FILE.write_text(FILE.read_text("utf-8").replace('"Backlog"', '"Queue"'))
    monkeypatch.setattr(sys, "argv", ["dashboard", "--check"])
    assert dashboard.main() == 1
    assert (
        "dashboard.json is not what monitoring/dashboard.py says: run `make docs`"
        in capsys.readouterr().err
    )
    monkeypatch.setattr(sys, "argv", ["dashboard"])
    assert dashboard.main() == 0
    assert dashboard.FILE.read_bytes() == FILE.read_bytes()


def test_the_data_source_is_a_variable() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    assert VARIABLES["datasource"]["label"] == "Data source"


@pytest.mark.parametrize("name", ["namespace", "job", "instance"])
def test_what_is_looked_at_can_be_chosen(name: str) -> None:
    variable = VARIABLES[name]
    assert variable["type"] == "query"
    assert variable["datasource"] == SOURCE
    assert variable["label"] == name.title()
    every = ".*" if name == "namespace" else ".+"
    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, every)
    assert variable["refresh"] == 2, "asked again when the time range changes"
    selector = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
    assert selector is not None
    assert selector[2] == name


def test_it_cannot_be_edited_in_grafana_where_the_next_update_would_undo_it() -> None:
    assert DASHBOARD["editable"] is False


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit_and_from_where(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == SOURCE
    assert panel["targets"]
    assert [target["refId"] for target in panel["targets"]] == list(
        "ABCDEFGH"[: len(panel["targets"])]
    )
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert target["legendFormat"]


def test_panels_have_an_id_of_their_own_and_fill_their_rows() -> None:
    assert max(Counter(panel["id"] for panel in DASHBOARD["panels"]).values()) == 1
    widths = Counter[tuple[int, int]]()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        widths[place["y"], place["h"]] += place["w"]
    assert set(widths.values()) == {24}


@pytest.mark.parametrize(("title", "expr"), TARGETS)
def test_a_query_is_about_what_was_chosen_and_fits_the_time_range(title: str, expr: str) -> None:
    selectors = re.findall(r"\{([^}]*)\}", expr)
    assert len(selectors) == sum(expr.count(name) for name in metrics_of(expr) | {"ALERTS"})
    for selector in selectors:
        assert 'job=~"$job", namespace=~"$namespace"' in selector
        assert ('instance=~"$instance"' in selector) == ("alertstate" not in selector)
    for window in re.findall(r"\[([^\]]*)\]", expr):
        assert window == "$__rate_interval"
    for name in metrics_of(expr):
        counts = len(re.findall(rf"\b(?:rate|increase)\({name}\{{", expr))
        assert not name.endswith("_total") or counts == expr.count(name), (
            "a counter is shown by its growth"
        )


def test_queries_ask_for_what_the_chassis_shows() -> None:
    named = {name for _, expr in TARGETS for name in metrics_of(expr)}
    assert named - {"ALERTS"} <= exported()


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    queries = [expr.replace("$__rate_interval", "5m") for _, expr in TARGETS]
    queries += [
        str(VARIABLES[name]["query"]).removeprefix("label_values(").partition(", ")[0]
        for name in ("job",)
    ]
    recorded = [
        {"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)
    ]
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]})
    )
    lab.run([find("promtool"), "check", "rules", "rules.yaml"], tmp_path)


def test_every_metric_of_the_chassis_is_on_it() -> None:
    shown = {
        re.sub("_(bucket|sum|count)$", "", name) for _, expr in TARGETS for name in metrics_of(expr)
    }
    families = {
        re.sub("_(bucket|sum|count)$", "", name)
        for name in exported()
        if name.startswith(("chassis_", "messaging_")) and not name.endswith("_created")
    }
    assert families - shown == set()


def test_the_brokers_and_stores_own_dashboards_are_linked() -> None:
    *others, fleet = DASHBOARD["links"]
    assert {link["title"] for link in others} == {
        "RabbitMQ",
        "NATS JetStream",
        "Redis",
        "PostgreSQL",
    }
    assert all(link["url"].startswith("https://") and link["targetBlank"] for link in others)
    assert fleet["url"] == f"/d/{json.loads(OF_THE_FLEET.read_text('utf-8'))['uid']}"


def test_a_release_is_marked_when_its_version_is_first_seen() -> None:
    (releases,) = DASHBOARD["annotations"]["list"]
    assert metrics_of(releases["expr"]) == {"chassis_build_info"}
    assert releases["expr"].count('job=~"$job", namespace=~"$namespace"') == 2


def test_the_chart_finds_what_it_makes_the_releases_own() -> None:
    template = (ROOT / "template/deploy/chart/templates/dashboard.yaml").read_text("utf-8")
    replaced = re.findall(r"\| replace `([^`]+)`", template)
    assert len(replaced) == 5
    text = FILE.read_text("utf-8")
    assert [text.count(once) for once in replaced[:4]] == [1, 1, 1, 1]
    assert text.count(replaced[4]) > len(TARGETS)

"""The dashboards of the platform keep the rules by which Grafana's own linter judges."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.brokers.binaries import find
from tests.monitoring.test_dashboard import SOURCE, UNITS
from tests.platform.rules import COMPONENTS, PLATFORM
from tests.platform.series import named, unknown
from tests.template import lab

FILES = sorted((PLATFORM / "chart/files/dashboards").glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in FILES
}
PANELS = [
    (name, panel)
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
COUNTERS = {"pg_stat_database_xact_commit", "pg_stat_database_xact_rollback"}


def test_there_is_one_for_every_component_and_one_for_the_fleet() -> None:
    assert BOARDS.keys() == {*COMPONENTS, "fleet"}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_dashboard_cannot_be_edited_and_leads_to_the_others(name: str) -> None:
    board = BOARDS[name]
    assert board["editable"] is False
    assert "platform" in board["tags"]
    assert [(link["type"], link["tags"]) for link in board["links"]] == [
        ("dashboards", ["platform"])
    ]
    assert board["templating"]["list"][0]["name"] == "datasource"
    ids = Counter(panel["id"] for panel in board["panels"])
    assert max(ids.values()) == 1


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_panels_fill_their_rows(name: str) -> None:
    widths = Counter[tuple[int, int]]()
    for panel in BOARDS[name]["panels"]:
        if panel["type"] != "row":
            place = panel["gridPos"]
            widths[place["y"], place["h"]] += place["w"]
    assert set(widths.values()) == {24}


@pytest.mark.parametrize(
    ("name", "panel"), PANELS, ids=[f"{name}-{panel['title']}" for name, panel in PANELS]
)
def test_a_panel_says_what_it_shows_in_which_unit_and_from_where(
    name: str, panel: dict[str, Any]
) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == SOURCE
    if panel["type"] != "table":
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert target["legendFormat"]
        expr = target["expr"]
        assert named(expr)
        assert unknown(re.sub(r"chassis:[\w:]+", "up", expr)) == set()
        assert set(re.findall(r"\[([^\]]*)\]", re.sub(r"\{[^}]*\}", "", expr))) <= {
            "$__rate_interval",
            "$__range",
        }
        for series in named(expr):
            if series.endswith("_total") or series in COUNTERS:
                assert re.search(rf"(?:rate|increase)\({series}[{{\[]", expr), series


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    queries = [
        target["expr"].replace("$__rate_interval", "5m").replace("$__range", "6h")
        for _, panel in PANELS
        for target in panel["targets"]
    ]
    recorded = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]})
    )
    lab.run([find("promtool"), "check", "rules", "rules.yaml"], tmp_path)


def test_a_service_has_one_row_with_all_that_is_asked_of_it_and_a_link() -> None:
    (panel,) = BOARDS["fleet"]["panels"]
    (organized,) = (t for t in panel["transformations"] if t["id"] == "organize")
    assert set(organized["options"]["renameByName"].values()) == {
        "Service",
        "Namespace",
        "Version",
        "Template version",
        "Replicas",
        "Ready",
        "Backlog",
        "Age, 99th percentile",
        "Dead letters",
        "Budget left",
    }
    assert panel["transformations"][0]["id"] == "merge"
    for target in panel["targets"]:
        assert (target["format"], target["instant"]) == ("table", True)
        assert "by (namespace, job" in target["expr"]
        assert 'namespace=~"$namespace"' in target["expr"]
    (links,) = (
        prop["value"]
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "links"
    )
    assert links[0]["url"].startswith("/dashboards?tag=chassis&query=${__data.fields")

"""For all answers and environments, Helm's lint is silent and every manifest fits its schema."""

import re
from collections.abc import Callable

import jsonschema
import pytest
import yaml

from tests.template.chart.cases import CASES, EVERYTHING, values_of
from tests.template.chart.charts import ADDRESSES, ON_POSTGRES, OPERATORS, Chart, kinds
from tests.template.chart.schemas import CUSTOM, KUBERNETES, OLDEST, NotServedError, check


@pytest.mark.parametrize(("bus", "inbox", "case"), CASES)
def test_lint_finds_nothing(
    chart_of: Callable[[str, str], Chart], bus: str, inbox: str, case: str
) -> None:
    chart = chart_of(bus, inbox)
    assert chart.lint(values_of(chart, case)) == []


@pytest.mark.parametrize(("bus", "inbox", "case"), CASES)
def test_every_manifest_fits_its_schema(
    chart_of: Callable[[str, str], Chart], bus: str, inbox: str, case: str
) -> None:
    chart = chart_of(bus, inbox)
    manifests = chart.render(values_of(chart, case))
    assert len(manifests) >= 5
    for manifest in manifests:
        for kubernetes in KUBERNETES:
            check(manifest, kubernetes)


def test_the_cases_hold_every_kind_that_the_chart_can_render(
    chart_of: Callable[[str, str], Chart],
) -> None:
    declared = set()
    for template in (chart_of("rabbitmq", "postgres").path / "templates").rglob("*"):
        if template.is_file():
            declared |= set(re.findall(r"^kind: (\w+)$", template.read_text("utf-8"), re.MULTILINE))
    rendered = set()
    for bus, inbox, case in CASES:
        chart = chart_of(bus, inbox)
        rendered |= kinds(chart.render(values_of(chart, case)))
    assert rendered == declared


def test_every_version_from_the_oldest_that_the_chart_allows_is_checked(chart: Chart) -> None:
    wanted = yaml.safe_load((chart.path / "Chart.yaml").read_text("utf-8"))["kubeVersion"]
    assert wanted == f">={'.'.join(map(str, OLDEST))}.0-0"
    minors = [int(version.split(".")[1]) for version in KUBERNETES]
    assert minors == list(range(OLDEST[1], 38))


def test_every_custom_resource_has_a_schema_that_something_is_checked_against(
    postgres_chart: Chart,
) -> None:
    rendered = {
        f"{each['apiVersion']}/{each['kind']}"
        for each in postgres_chart.render(ON_POSTGRES | EVERYTHING)
    }
    assert {name for name in rendered if name.rpartition("/")[0] in OPERATORS} <= CUSTOM.keys()
    assert {name.rpartition("/")[0] for name in CUSTOM} == set(OPERATORS)


def test_a_removed_api_and_an_unknown_field_do_not_pass(chart: Chart) -> None:
    budget = next(each for each in chart.render(ADDRESSES) if each["kind"] == "PodDisruptionBudget")
    with pytest.raises(NotServedError):
        check(budget | {"apiVersion": "policy/v1beta1"}, "1.27.0")
    with pytest.raises(jsonschema.ValidationError):
        check(budget | {"spec": budget["spec"] | {"bogus": 1}}, "1.27.0")
    scaled = next(
        each for each in chart.render(ADDRESSES | EVERYTHING) if each["kind"] == "ScaledObject"
    )
    with pytest.raises(jsonschema.ValidationError):
        check(scaled | {"spec": scaled["spec"] | {"minReplicas": 1}}, "1.27.0")


def test_a_cluster_without_operators_gets_none_of_their_resources(postgres_chart: Chart) -> None:
    refused = ("externalSecret", "api")
    without = {name: value for name, value in EVERYTHING.items() if name not in refused}
    rendered = postgres_chart.render(ON_POSTGRES | without, apis=())
    assert {each["apiVersion"] for each in rendered}.isdisjoint(OPERATORS)
    assert {each["apiVersion"] for each in postgres_chart.render(ON_POSTGRES | EVERYTHING)} >= set(
        OPERATORS
    )

"""Since when a service lags and drifts, what the policy says to that, and what is exported."""

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dockyard.fleet.policy import Policy, Waiver, judged
from dockyard.fleet.status import Row, State
from tests.generator import services
from tests.generator.fleet.conftest import DRIFTED, NEWER, NEWEST, Fleet, rows
from tests.generator.lab import Dockyard, git

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def at(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next commits be of that day."""
    monkeypatch.setenv("GIT_COMMITTER_DATE", f"{moment}T12:00:00Z")


def test_drift_is_as_old_as_the_first_commit_of_it_also_across_updates(
    dockyard: Dockyard, fleet: Fleet, on: pytest.MonkeyPatch
) -> None:
    at("2026-01-01", on)
    made = fleet.add("a-svc")
    at("2026-01-05", on)
    made.write(DRIFTED)
    at("2026-02-01", on)
    services.release(fleet.template, NEWER, "v1.1.0")
    rows(dockyard, "update", fleet.folder, code=0)
    git(made.root, "merge", "--quiet", "--no-ff", "dockyard/v1.1.0")
    at("2026-02-10", on)
    made.write({"Makefile": (made.root / "Makefile").read_text() + "more\n"})

    (drift,) = rows(dockyard, "status", fleet.folder, code=0)["a-svc"]["drift"]
    assert drift == {"path": "Makefile", "how": "modified", "since": "2026-01-05T12:00:00+00:00"}

    dockyard("restore", made.root)
    made.write({})
    at("2026-02-20", on)
    made.write({"Makefile": "all new\n"})
    (made.root / "tool.ini").write_text("not committed\n")

    found = rows(dockyard, "status", fleet.folder, code=0)["a-svc"]["drift"]
    assert {each["path"]: each["since"] for each in found} == {
        "Makefile": "2026-02-20T12:00:00+00:00",
        "tool.ini": None,
    }


def test_a_service_is_outdated_since_the_oldest_release_that_it_lacks(
    dockyard: Dockyard, fleet: Fleet, on: pytest.MonkeyPatch
) -> None:
    at("2026-01-01", on)
    fleet.add("a-svc")
    at("2026-01-10", on)
    services.release(fleet.template, NEWER, "v1.1.0")
    at("2026-02-10", on)
    services.release(fleet.template, NEWEST, "v1.2.0")
    fleet.add("b-svc", ref="v1.2.0")

    found = rows(dockyard, "status", fleet.folder, code=0)

    assert found["a-svc"]["outdated_since"] == "2026-01-10T12:00:00+00:00"
    assert found["b-svc"]["outdated_since"] is None
    assert " d)" in dockyard("fleet", "status", fleet.folder).out.splitlines()[0]


def test_check_holds_the_policy_of_the_fleet_file(
    dockyard: Dockyard, fleet: Fleet, on: pytest.MonkeyPatch
) -> None:
    at("2020-01-01", on)
    fleet.add("a-svc", DRIFTED)
    services.release(fleet.template, NEWER, "v1.1.0")
    file = fleet.folder / "fleet.toml"
    listed = '[[services]]\npath = "a-svc"\n'
    policy = "[policy]\nmax_days_behind = 30\nmax_days_drifted = 30\n"
    file.write_text(policy + listed)

    found = rows(dockyard, "check", file, code=1)["a-svc"]
    assert [each.split(" for ")[0] for each in found["breaches"]] == [
        "it is behind",
        "Makefile has drifted",
    ]

    waivers = "".join(
        f'[[policy.waivers]]\nof = "{of}"\nuntil = 9999-12-31\n'
        'services = ["a-svc"]\nreason = "moves house"\n'
        for of in ("behind", "drift")
    )
    file.write_text(policy + waivers + listed)
    waived = rows(dockyard, "check", file, code=0)["a-svc"]
    assert waived["breaches"] == []
    assert waived["waived"][0].endswith("waived until 9999-12-31: moves house")

    file.write_text("[policy]\nmax_days_behind = 99999\n" + listed)
    rows(dockyard, "check", file, code=0)


def a_row(**changes: object) -> Row:
    known = {
        "name": "a-svc",
        "place": "/a-svc",
        "groups": ("eu",),
        "state": State.OUTDATED,
        "behind": 2,
        "lacking_since": NOW - timedelta(days=31),
        "drift": (("Makefile", "modified"),),
        "drift_since": {"Makefile": NOW - timedelta(days=8)},
    }
    return Row(**(known | changes))  # type: ignore[arg-type]


POLICY = Policy(most_days_behind=30, most_days_drifted=7)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, 2),
        ({"lacking_since": NOW - timedelta(days=30, hours=23)}, 1),
        ({"drift_since": {}}, 1),
        ({"behind": 0, "lacking_since": None, "drift": ()}, 0),
        ({"state": State.ERROR}, 3),
        ({"state": State.FOREIGN, "behind": 0, "drift": ()}, 1),
    ],
)
def test_what_is_older_than_allowed_breaks_the_policy(
    changes: dict[str, object], broken: int
) -> None:
    assert len(judged(a_row(**changes), POLICY, NOW).breaches) == broken


@pytest.mark.parametrize(
    ("waiver", "holds"),
    [
        (Waiver("drift", date(2026, 3, 1), "r", services=frozenset({"a-svc"})), True),
        (Waiver("drift", date(2026, 2, 28), "r", services=frozenset({"a-svc"})), False),
        (Waiver("drift", date(2026, 3, 1), "r", groups=frozenset({"eu"})), True),
        (Waiver("drift", date(2026, 3, 1), "r", groups=frozenset({"us"})), False),
        (
            Waiver("drift", date(2026, 3, 1), "r", groups=frozenset({"eu"}), files=("deploy/*",)),
            False,
        ),
        (Waiver("behind", date(2026, 3, 1), "r", groups=frozenset({"eu"})), False),
    ],
)
def test_a_waiver_holds_until_its_end_for_what_it_names(waiver: Waiver, holds: bool) -> None:
    row = a_row(behind=0)

    found = judged(row, Policy(most_days_drifted=7, waivers=(waiver,)), NOW)

    assert (bool(found.waived), bool(found.breaches)) == (holds, not holds)
    if waiver.until < NOW.date():
        assert found.breaches[0].endswith("; its waiver ended on 2026-02-28: r")


def test_a_fleet_is_exported_for_prometheus(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path, on: pytest.MonkeyPatch
) -> None:
    at("2020-01-01", on)
    fleet.add("a-svc", DRIFTED)
    services.release(fleet.template, NEWER, "v1.1.0")
    file = tmp_path / "fleet.prom"

    ran = dockyard(
        "fleet", "export", fleet.folder, "--format", "prometheus", "--output", file, "--jobs", "1"
    )

    assert ran.code == 0, ran.err
    told = {
        sample.name: sample
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }
    assert told["dockyard_service_info"].labels["target"] == "v1.1.0"
    assert told["dockyard_service_behind_releases"].value == 1
    assert told["dockyard_service_behind_seconds"].value > timedelta(days=365).total_seconds()
    assert told["dockyard_service_drifted_files"].labels == {"service": "a-svc"}
    assert told["dockyard_service_drift_seconds"].value > timedelta(days=365).total_seconds()


def test_a_fleet_is_exported_as_a_table_that_runs_no_formula(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    fleet.add("=cmd()|a")

    ran = dockyard("fleet", "export", fleet.folder, "--format", "csv", "--jobs", "1")

    (line,) = csv.DictReader(ran.out.splitlines())
    assert (line["service"], line["state"], line["version"]) == ("'=cmd()|a", "current", "v1.0.0")

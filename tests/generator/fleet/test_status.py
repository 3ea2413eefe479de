"""The status of a fleet: each service stands for itself, even if another one is broken."""

import json
import os
from pathlib import Path

import pytest

from dockyard.fleet import run
from tests.generator import services
from tests.generator.fleet.conftest import DRIFTED, IN_CONFLICT, Fleet, rows, states
from tests.generator.lab import Dockyard, git
from tests.generator.services import LINES


def test_status_tells_version_drift_predicted_conflicts_and_open_branches(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    for name, changed in (("calm-svc", {}), ("drifted-svc", DRIFTED), ("torn-svc", IN_CONFLICT)):
        fleet.add(name, changed)
    fleet.release()
    fleet.add("new-svc", ref="v1.1.0")
    dockyard("update", fleet.folder / "calm-svc")
    before = {path.name: services.Made(path).state() for path in fleet.folder.iterdir()}

    found = rows(dockyard, "status", fleet.folder, code=1)

    assert states(found) == {
        "calm-svc": "outdated",
        "drifted-svc": "outdated",
        "new-svc": "current",
        "torn-svc": "blocked",
    }
    assert found["calm-svc"] == {
        "name": "calm-svc",
        "place": str(fleet.folder / "calm-svc"),
        "groups": [],
        "state": "outdated",
        "template": str(fleet.template.path),
        "recorded": "v1.0.0",
        "target": "v1.1.0",
        "behind": 1,
        "outdated_since": found["drifted-svc"]["outdated_since"],
        "drift": [],
        "conflicts": [],
        "branches": ["dockyard/v1.1.0"],
        "url": "",
        "message": "",
        "new_questions": [],
        "breaches": [],
        "waived": [],
    }
    (drift,) = found["drifted-svc"]["drift"]
    assert (drift["path"], drift["how"]) == ("Makefile", "modified")
    assert found["torn-svc"]["conflicts"] == [{"path": "Makefile", "conflict": "content"}]
    assert {path.name: services.Made(path).state() for path in fleet.folder.iterdir()} == before


def test_status_is_measured_against_the_wanted_version(dockyard: Dockyard, fleet: Fleet) -> None:
    fleet.add("a-svc")
    fleet.release()
    fleet.release_again()

    assert rows(dockyard, "status", fleet.folder, code=0)["a-svc"]["behind"] == 2
    assert (
        rows(dockyard, "status", fleet.folder, "--to", "v1.1.0", code=0)["a-svc"]["target"]
        == "v1.1.0"
    )
    assert states(rows(dockyard, "status", fleet.folder, "--to", "v1.0.0", code=0)) == {
        "a-svc": "current"
    }


def test_check_is_for_ci(dockyard: Dockyard, fleet: Fleet) -> None:
    calm = fleet.add("a-svc")
    rows(dockyard, "check", fleet.folder, code=0)
    fleet.release()
    rows(dockyard, "check", fleet.folder, code=1)
    rows(dockyard, "check", fleet.folder, "--to", "v1.0.0", code=0)
    calm.write(DRIFTED)
    rows(dockyard, "check", fleet.folder, "--to", "v1.0.0", code=1)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_is_wrong_with_a_service_stops_no_other(
    dockyard: Dockyard, fleet: Fleet, jobs: str
) -> None:
    fleet.add("well-svc")
    (fleet.add("no-git-svc").root / ".git").rename(fleet.folder.parent / "elsewhere")
    (fleet.add("broken-svc").root / ".copier-answers.yml").write_text("[")
    fleet.add("no-template-svc", {".copier-answers.yml": "_src_path: /nowhere\n_commit: v1.0.0\n"})
    fleet.add(
        "no-version-svc",
        {".copier-answers.yml": f"_src_path: {fleet.template.path}\n_commit: v9\n"},
    )

    ran = dockyard("fleet", "status", fleet.folder, "--json", "--jobs", jobs)

    assert ran.code == 1, ran.err
    found = {row["name"]: row for row in json.loads(ran.out)["services"]}
    assert states(found) == {
        "broken-svc": "error",
        "no-git-svc": "error",
        "no-template-svc": "error",
        "no-version-svc": "error",
        "well-svc": "current",
    }
    for name, word in (
        ("broken", ".copier-answers"),
        ("no-git", "git"),
        ("no-template", "nowhere"),
        ("no-version", "v9"),
    ):
        assert word in found[f"{name}-svc"]["message"]
        assert "defect" not in found[f"{name}-svc"]["message"]


def test_a_defect_met_in_one_service_is_reported_there(
    dockyard: Dockyard, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.add("a-svc")
    fleet.add("b-svc")
    real = run.status_of.__globals__["commands"].check

    def check(path: Path, to: str | None, at: str | None) -> object:
        if path.name == "a-svc":
            raise ZeroDivisionError("division by zero")
        return real(path, to, at)

    monkeypatch.setattr("dockyard.commands.check", check)

    found = rows(dockyard, "status", fleet.folder, code=1)

    assert states(found) == {"a-svc": "error", "b-svc": "current"}
    assert (
        "a defect of dockyard: ZeroDivisionError: division by zero (test_status.py:"
        in found["a-svc"]["message"]
    )


def test_a_service_of_another_template_is_foreign(dockyard: Dockyard, fleet: Fleet) -> None:
    made = fleet.add("a-svc")
    other = fleet.folder.parent / "other"
    git(fleet.folder, "clone", "--quiet", str(fleet.template.path), str(other))
    (fleet.folder / "fleet.toml").write_text(
        f'template = "{other}"\n[[services]]\npath = "a-svc"\n'
    )
    before = made.state()

    assert states(rows(dockyard, "status", fleet.folder, code=1)) == {"a-svc": "foreign"}
    assert states(rows(dockyard, "update", fleet.folder, code=1)) == {"a-svc": "foreign"}
    assert made.state() == before


def test_another_spelling_of_the_templates_address_is_the_same_template(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(fleet.template.path), str(bare))
    made = fleet.add("a-svc")
    answers = made.root / ".copier-answers.yml"
    url = bare.as_uri()
    made.write({answers.name: answers.read_text().replace(str(fleet.template.path), url)})
    for other in (f"{url}/", url.removesuffix(".git"), str(bare)):
        (fleet.folder / "fleet.toml").write_text(
            f'template = "{other}"\n[[services]]\npath = "a-svc"\n'
        )

        assert states(rows(dockyard, "check", fleet.folder, code=0)) == {"a-svc": "current"}, other


@pytest.mark.parametrize(("committed", "state"), [({}, "outdated"), (IN_CONFLICT, "blocked")])
def test_a_dirty_service_is_predicted_from_its_commit(
    dockyard: Dockyard, fleet: Fleet, committed: dict[str, str], state: str
) -> None:
    busy = fleet.add("busy-svc", committed)
    fleet.release()
    (busy.root / "tool.ini").write_text("in the middle of something\n")
    before = busy.state()

    found = rows(dockyard, "status", fleet.folder, code=int(state == "blocked"))

    assert states(found) == {"busy-svc": state}
    assert found["busy-svc"]["message"].startswith("dirty: ")
    assert busy.state() == before


def test_groups_choose_services(dockyard: Dockyard, fleet: Fleet) -> None:
    for name in ("a-svc", "b-svc", "c-svc"):
        fleet.add(name)
    lines = [f'[[services]]\npath = "{name}-svc"\ngroups = ["{name}", "all"]\n' for name in "abc"]
    (fleet.folder / "fleet.toml").write_text("".join(lines))

    assert set(rows(dockyard, "status", fleet.folder, "--group", "a", "--group", "c", code=0)) == {
        "a-svc",
        "c-svc",
    }
    refused = dockyard("fleet", "status", fleet.folder, "--group", "d")
    assert (refused.code, "it has a, all, b, c" in refused.err) == (2, True)


def test_services_of_one_repository_stand_by_themselves(dockyard: Dockyard, fleet: Fleet) -> None:
    mono = fleet.folder / "mono"
    for name in ("one-svc", "two-svc"):
        services.render_into(fleet.template, mono / "apps" / name, "v1.0.0")
    git(mono, "init", "--quiet")
    services.Made(mono).write({f"apps/one-svc/{path}": text for path, text in IN_CONFLICT.items()})
    fleet.release()

    found = rows(dockyard, "status", fleet.folder, code=1)

    assert states(found) == {"mono/apps/one-svc": "blocked", "mono/apps/two-svc": "outdated"}
    assert found["mono/apps/one-svc"]["conflicts"] == [{"path": "Makefile", "conflict": "content"}]


def test_the_drift_of_a_fleet_is_one_patch(dockyard: Dockyard, fleet: Fleet) -> None:
    fleet.add("calm-svc")
    fleet.add("drifted-svc", DRIFTED)
    fleet.release()

    drift = dockyard("fleet", "diff", fleet.folder, "--jobs", "1")
    ahead = dockyard("fleet", "diff", fleet.folder, "--to", "v1.1.0", "--jobs", "2")

    assert (drift.code, ahead.code) == (1, 1)
    assert "diff --git a/drifted-svc/Makefile b/drifted-svc/Makefile" in drift.out
    assert "calm-svc" not in drift.out
    for name in ("calm-svc", "drifted-svc"):
        assert f"+++ b/{name}/added.txt" in ahead.out
    assert dockyard("fleet", "diff", fleet.folder / "calm-svc").code == 0


def test_a_diff_says_which_service_has_none(dockyard: Dockyard, fleet: Fleet) -> None:
    (fleet.add("broken-svc").root / ".copier-answers.yml").write_text("[")
    fleet.add("drifted-svc", DRIFTED)

    ran = dockyard("fleet", "diff", fleet.folder, "--jobs", "1")

    assert ran.code == 1
    assert "dockyard: broken-svc: " in ran.err
    assert "a/drifted-svc/Makefile" in ran.out


def test_hostile_names_move_no_cursor(dockyard: Dockyard, fleet: Fleet) -> None:
    name = os.fsdecode(b"\x1b[2J\n\xff<b>svc")
    services.lay_down_service(fleet.template, fleet.folder / "plain", "v1.0.0", service_name="x")
    (fleet.folder / "plain").rename(fleet.folder / name)
    answers = fleet.folder / name / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace("v1.0.0", '"v1.0.0\\e[2J"'))

    ran = dockyard("fleet", "status", fleet.folder)
    said = json.loads(dockyard("fleet", "status", fleet.folder, "--json").out)

    assert ran.code == 1
    assert "\x1b[2J" not in ran.out + ran.err
    assert "\\x1b[2J\\n\\xff<b>svc" in ran.out
    assert said["services"][0]["name"] == "\\x1b[2J\\n\\xff<b>svc"


def test_words_for_people_end_with_the_sum(dockyard: Dockyard, fleet: Fleet) -> None:
    fleet.add("calm-svc")
    fleet.add("torn-svc", IN_CONFLICT)
    fleet.release()

    ran = dockyard("fleet", "status", fleet.folder)

    assert ran.out.splitlines() == [
        "calm-svc  outdated  v1.0.0  v1.1.0  1  -  -  -",
        "torn-svc  blocked  v1.0.0  v1.1.0  1  1  1  -",
        "torn-svc: conflict in Makefile (content)",
        "2 services: 1 outdated, 1 blocked, 1 with drift",
    ]
    assert "looking 2/2: " in ran.err


def test_uncommitted_work_is_seen_in_a_service_that_is_current(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    busy = fleet.add("busy-svc")
    (busy.root / "src/main.py").write_text("in the middle of something\n")

    found = rows(dockyard, "status", fleet.folder, code=0)["busy-svc"]

    assert (found["state"], found["message"].partition(":")[0]) == ("current", "dirty")


def test_a_rename_on_both_sides_is_one_conflict(dockyard: Dockyard, fleet: Fleet) -> None:
    fleet.add("a-svc", {"old.cfg": None, "ours.cfg": f"old\n{LINES}"})
    renamed = {"template/old.cfg": None, "template/theirs.cfg": f"old\n{LINES}"}
    services.release(fleet.template, renamed, "v1.1.0")

    found = rows(dockyard, "status", fleet.folder, code=1)["a-svc"]
    ran = dockyard("update", fleet.folder / "a-svc", "--dry-run")

    assert found["conflicts"] == [{"path": "old.cfg", "conflict": "rename"}]
    assert "It leaves 1 conflict to solve." in ran.out
    assert "renamed to ours.cfg" in ran.out


def test_a_folder_says_what_it_leaves_out_and_why(dockyard: Dockyard, fleet: Fleet) -> None:
    fleet.add("a-svc")
    git(fleet.folder / "a-svc", "worktree", "add", "--quiet", "--detach", str(fleet.folder / "b"))
    (fleet.folder / "link").symlink_to("a-svc")
    git(fleet.folder, "init", "--quiet", "other")

    ran = dockyard("fleet", "status", fleet.folder, "--json", "--jobs", "1")

    said = json.loads(ran.out)
    assert [row["name"] for row in said["services"]] == ["a-svc"]
    assert {Path(each["path"]).name: each["why"] for each in said["left_out"]} == {
        "b": f"it is the service of {fleet.folder / 'a-svc'} again",
        "link": "it is a link",
        "other": "a repository without an answers file of Copier",
    }
    assert f"left out: {fleet.folder / 'other'}: " in ran.err

"""`dockyard update` when nothing is in its way."""

import json
from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER: dict[str, str | bytes | None] = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n"),
    "template/old.cfg": None,
    "template/added.txt.jinja": "for {{ service_name }}\n",
    "template/src/seeded_later.py": "seeded = 1\n",
    "template/README.md.jinja": "# Another README of {{ service_name }}\n",
    "template/logo.png": bytes(reversed(range(256))),
    "CHANGELOG.md": (
        "# Changelog\n\n## 1.1.0\n\n- A newer Makefile.\n\n## 1.0.0\n\n- The beginning.\n"
    ),
}


def test_an_update_is_one_commit_on_a_branch_and_touches_nothing_else(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    before = service.state()

    ran = dockyard("update", service.root)

    assert ran.code == 0, ran.err
    after = service.state()
    assert "Committed on the branch dockyard/v1.1.0." in ran.out
    assert git(service.root, "rev-list", "HEAD..dockyard/v1.1.0", "--count").strip() == "1"
    assert git(service.root, "log", "-1", "--format=%an|%s", "dockyard/v1.1.0").strip() == (
        "Ada|Update from template v1.0.0 to v1.1.0"
    )
    assert {key: after[key] for key in ("files", "head", "index", "status")} == {
        key: before[key] for key in ("files", "head", "index", "status")
    }
    git(service.root, "fsck", "--strict")


def test_an_untouched_service_becomes_a_fresh_render_but_for_what_is_the_teams(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path, into: Path
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    seeded = services.contents(service.root)["README.md"]

    dockyard("update", service.root)

    updated = services.branch(service.root, "dockyard/v1.1.0", tmp_path / "updated")
    service.root.rename(into / "moved")
    expected = services.fresh(evolving, into / "billing-svc", "v1.1.0")
    assert updated == {**expected, "README.md": seeded}
    assert "src/seeded_later.py" in updated


@pytest.mark.parametrize("mode", [[], ["--in-place"], ["--step"], ["--dry-run"]])
def test_an_answer_that_is_recorded_already_changes_nothing(
    dockyard: Dockyard, service: Made, mode: list[str]
) -> None:
    before = service.state()

    ran = dockyard("update", service.root, "--data", "owner=platform", *mode)

    assert (ran.code, ran.out) == (0, "billing-svc has the newest version already: v1.0.0.\n")
    assert service.state() == before


def test_the_users_separators_of_trailers_do_not_make_dockyards_branch_somebody_elses(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    git(service.root, "config", "--global", "trailer.separators", "=#")
    dockyard("update", service.root)
    service.write({"src/main.py": "more\n"})

    ran = dockyard("update", service.root)

    assert "Committed on the branch dockyard/v1.1.0." in ran.out, ran.err


def test_another_format_of_hashes_for_new_repositories_is_not_for_services(
    dockyard: Dockyard, repository: Repository, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository.path, "tag", "v1.0.0")
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    laid_down = dockyard(
        "new", "billing-svc", "--into", into, "--template", repository.path, "--defaults"
    )
    assert laid_down.code == 0, laid_down.err
    repository.commit({"template/release.txt": "two\n"}, "v1.1.0")

    ran = dockyard("update", into / "billing-svc")

    assert ran.code == 0, ran.err


def test_in_place_writes_the_working_tree_and_stages_it(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    dockyard("update", service.root)

    ran = dockyard("update", service.root, "--in-place")

    assert ran.code == 0, ran.err
    assert services.contents(service.root) == services.branch(
        service.root, "dockyard/v1.1.0", tmp_path / "branch"
    )
    assert git(service.root, "write-tree") == git(
        service.root, "rev-parse", "dockyard/v1.1.0^{tree}"
    )
    assert git(service.root, "diff", "--name-only") == ""
    assert git(service.root, "rev-list", "--count", "HEAD").strip() == "1"


def test_a_dry_run_writes_nothing_and_predicts_the_very_tree(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"Makefile": LINES.replace("line 19\n", "line 19, ours\n")})
    services.release(evolving, NEWER, "v1.1.0")
    before = service.state()

    predicted = json.loads(dockyard("update", service.root, "--dry-run", "--json").out)

    assert service.state() == before
    done = json.loads(dockyard("update", service.root, "--json").out)
    assert (predicted["outcome"], done["outcome"]) == ("predicted", "committed")
    assert (
        predicted["tree"]
        == done["tree"]
        == git(service.root, "rev-parse", "dockyard/v1.1.0^{tree}").strip()
    )
    assert predicted["steps"] == done["steps"]


def test_a_predicted_conflict_is_the_later_conflict(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    service.write({"Makefile": LINES.replace("line 2\n", "line 2, ours\n")})
    services.release(evolving, NEWER, "v1.1.0")

    predicted = dockyard("update", service.root, "--dry-run", "--json")
    done = dockyard("update", service.root, "--in-place", "--json")

    assert (predicted.code, done.code) == (1, 1)
    assert json.loads(predicted.out)["tree"] == json.loads(done.out)["tree"]
    assert json.loads(predicted.out)["conflicts"] == json.loads(done.out)["conflicts"] == 1


def test_what_the_team_changed_elsewhere_in_a_file_is_merged(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    service.write({"Makefile": LINES.replace("line 19\n", "line 19, ours\n")})
    services.release(evolving, NEWER, "v1.1.0")

    found = json.loads(dockyard("update", service.root, "--json").out)

    updated = services.branch(service.root, "dockyard/v1.1.0", tmp_path / "updated")
    assert updated["Makefile"][1].decode() == LINES.replace("line 2\n", "line 2, newer\n").replace(
        "line 19\n", "line 19, ours\n"
    )
    assert {"path": "Makefile", "state": "merged", "conflict": None, "message": ""} in found[
        "steps"
    ][0]["files"]


def test_updating_again_does_nothing(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    dockyard("update", service.root)
    once = service.state()

    again = dockyard("update", service.root)
    assert (again.code, service.state()) == (0, once)
    assert "It is on the branch dockyard/v1.1.0 already." in again.out

    git(service.root, "merge", "--quiet", "dockyard/v1.1.0")
    merged = dockyard("update", service.root, "--json")
    assert (merged.code, json.loads(merged.out)["outcome"]) == (0, "nothing")


def test_the_branch_of_an_earlier_update_follows_the_service(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    dockyard("update", service.root)
    service.write({"src/main.py": "ours = 1\n"})

    ran = dockyard("update", service.root)

    assert ran.code == 0, ran.err
    assert git(service.root, "rev-parse", "dockyard/v1.1.0^") == git(
        service.root, "rev-parse", "HEAD"
    )


def test_release_notes_between_the_versions_are_shown(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")

    ran = dockyard("update", service.root, "--dry-run")

    assert "## 1.1.0\n- A newer Makefile.\n" in ran.out
    assert "The beginning" not in ran.out


def test_step_goes_release_by_release_a_commit_each(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        text = LINES.replace(f"line {number}\n", f"line {number}, newer\n")
        services.release(evolving, {"template/Makefile": text}, f"v1.{number}.0")
    services.release(evolving, {"template/Makefile": LINES}, "v1.4.0rc1")

    ran = dockyard("update", service.root, "--step")

    assert ran.code == 0, ran.err
    assert git(service.root, "log", "--format=%s", "HEAD..dockyard/v1.3.0").splitlines() == [
        f"Update from template v1.{number}.0 to v1.{number + 1}.0" for number in (2, 1, 0)
    ]
    stepped = services.branch(service.root, "dockyard/v1.3.0", tmp_path / "stepped")
    git(service.root, "worktree", "remove", "--force", str(tmp_path / "stepped"))
    git(service.root, "branch", "-D", "dockyard/v1.3.0")
    dockyard("update", service.root)
    assert stepped == services.branch(service.root, "dockyard/v1.3.0", tmp_path / "leapt")


def test_new_questions_are_listed_with_the_answers_they_take(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    asked = "region: {type: str, default: eu, help: Where it runs}\ntier: {type: int, default: 3}\n"
    services.release(
        evolving,
        {
            "copier.yml": services.QUESTIONS + asked,
            "template/region.txt.jinja": "{{ region }} {{ tier }}\n",
        },
        "v1.1.0",
    )

    found = json.loads(dockyard("update", service.root, "--data", "tier=1", "--json").out)

    assert found["steps"][0]["new_questions"] == [
        {"name": "region", "answer": "eu", "given": False, "carried": [], "help": "Where it runs"},
        {"name": "tier", "answer": 1, "given": True, "carried": [], "help": ""},
    ]
    updated = services.branch(service.root, "dockyard/v1.1.0", tmp_path / "updated")
    assert updated["region.txt"][1] == b"eu 1\n"
    assert b"region: eu\n" in updated[".copier-answers.yml"][1]


MOVED = """\
team: {type: str, default: "{{ owner | default('platform') }}", help: Team}
tier:
  type: str
  default: "{{ {'payments': 'gold', 'core': 'silver'}.get(owner | default(''), 'bronze') }}"
  choices: [gold, silver, bronze]
"""


def test_an_answer_moves_to_another_question_as_the_prediction_says(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    assert dockyard("update", service.root, "--in-place", "--data", "owner=payments").code == 0
    service.write({}, "another owner")
    start = services.QUESTIONS.index("owner:")
    without = services.QUESTIONS[:start] + services.QUESTIONS[services.QUESTIONS.index("yours:") :]
    tool = {"template/tool.ini.jinja": f"# {{{{ team }}}} {{{{ tier }}}}\n{LINES}"}
    services.release(evolving, {"copier.yml": MOVED + without, **tool}, "v1.1.0")

    (step,) = json.loads(dockyard("update", service.root, "--dry-run", "--json").out)["steps"]

    assert step["retired"] == ["owner"]
    assert [(each["answer"], each["carried"]) for each in step["new_questions"]] == [
        ("payments", ["owner"]),
        ("gold", ["owner"]),
    ]
    shown = dockyard("update", service.root, "--dry-run").out
    assert "new question team = 'payments' (from owner; another with --data)" in shown
    assert dockyard("update", service.root, "--in-place").code == 0
    assert (service.root / "tool.ini").read_text("utf-8").startswith("# payments gold\n")
    said = (service.root / ".copier-answers.yml").read_text("utf-8")
    assert "team: payments" in said
    assert "owner" not in said


def test_an_answer_can_be_changed_without_a_newer_version(
    dockyard: Dockyard, service: Made, tmp_path: Path
) -> None:
    ran = dockyard("update", service.root, "--data", "owner=payments")

    assert ran.code == 0, ran.err
    updated = services.branch(service.root, "dockyard/v1.0.0", tmp_path / "updated")
    assert updated["tool.ini"][1].startswith(b"# payments\n")


def test_the_team_name_of_an_answer_that_is_not_asked_any_more_is_told(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    without = services.QUESTIONS.replace(
        "owner:\n  type: str\n", "owner:\n  when: false\n  type: str\n"
    )
    services.release(evolving, {"copier.yml": without}, "v1.1.0")

    found = json.loads(dockyard("update", service.root, "--json").out)

    assert found["steps"][0]["retired"] == ["owner"]


def test_a_service_without_releases_follows_the_templates_head(
    dockyard: Dockyard, evolving: Repository, into: Path
) -> None:
    git(evolving.path, "tag", "-d", "v1.0.0")
    made = services.lay_down_service(evolving, into / "head-svc")
    commit = services.release(evolving, NEWER)

    found = json.loads(dockyard("update", made.root, "--json").out)

    assert found["branch"] == f"dockyard/{commit[:12]}"


def test_a_service_ahead_of_the_newest_release_is_left_alone(
    dockyard: Dockyard, evolving: Repository, into: Path
) -> None:
    services.release(evolving, NEWER)
    made = services.lay_down_service(evolving, into / "ahead-svc", "HEAD")

    found = json.loads(dockyard("update", made.root, "--json").out)

    assert (found["outcome"], found["branch"]) == ("nothing", None)

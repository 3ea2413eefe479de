"""One update for all services: each by itself, again without harm, in waves."""

from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.fleet.conftest import DRIFTED, IN_CONFLICT, Fleet, branches, rows, states
from tests.generator.lab import Dockyard, git
from tests.generator.services import LINES, Made

PASSING = {"GNUmakefile": "test:\n\ttest -f added.txt\n"}
FAILING = {"GNUmakefile": "test:\n\techo it is broken >&2; exit 3\n"}


def test_each_service_gets_a_branch_and_one_with_conflicts_is_left_as_it_was(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    calm, drifted, torn = (
        fleet.add("calm-svc"),
        fleet.add("drifted-svc", DRIFTED),
        fleet.add("torn-svc", IN_CONFLICT),
    )
    fleet.release()
    before = torn.state()

    found = rows(dockyard, "update", fleet.folder, code=1)

    assert states(found) == {"calm-svc": "updated", "drifted-svc": "updated", "torn-svc": "blocked"}
    assert found["torn-svc"]["conflicts"] == [{"path": "Makefile", "conflict": "content"}]
    assert torn.state() == before
    for service in (calm, drifted):
        assert branches(service) == ["dockyard/v1.1.0"]
        assert git(service.root, "show", "dockyard/v1.1.0:added.txt") == "added\n"


def test_run_again_it_changes_nothing_more(dockyard: Dockyard, fleet: Fleet) -> None:
    calm = fleet.add("calm-svc")
    fleet.release()
    rows(dockyard, "update", fleet.folder, code=0)
    once = calm.state()

    again = rows(dockyard, "update", fleet.folder, code=0)
    assert (states(again), calm.state()) == ({"calm-svc": "updated"}, once)

    git(calm.root, "merge", "--quiet", "dockyard/v1.1.0")
    assert states(rows(dockyard, "update", fleet.folder, code=0)) == {"calm-svc": "current"}


def test_an_open_branch_follows_its_service(dockyard: Dockyard, fleet: Fleet) -> None:
    calm = fleet.add("calm-svc")
    fleet.release()
    rows(dockyard, "update", fleet.folder, code=0)
    calm.write({"src/main.py": "ours = 1\n"})

    rows(dockyard, "update", fleet.folder, code=0)

    assert branches(calm) == ["dockyard/v1.1.0"]
    assert git(calm.root, "rev-parse", "dockyard/v1.1.0^") == git(calm.root, "rev-parse", "HEAD")


def test_the_branch_of_a_newer_version_replaces_the_open_one(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    calm = fleet.add("calm-svc")
    git(calm.root, "branch", "dockyard/notes-of-the-team")
    fleet.release()
    rows(dockyard, "update", fleet.folder, code=0)
    fleet.release_again()

    found = rows(dockyard, "update", fleet.folder, code=0)

    assert branches(calm) == ["dockyard/notes-of-the-team", "dockyard/v1.2.0"]
    assert found["calm-svc"]["message"] == "it replaces dockyard/v1.1.0"
    rows(dockyard, "update", fleet.folder, "--to", "v1.1.0", code=0)
    assert branches(calm) == ["dockyard/notes-of-the-team", "dockyard/v1.1.0", "dockyard/v1.2.0"]


def test_a_branch_with_commits_of_people_is_left_alone_and_reported(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    calm = fleet.add("calm-svc")
    other = fleet.add("other-svc")
    fleet.release()
    rows(dockyard, "update", fleet.folder, code=0)
    git(calm.root, "checkout", "--quiet", "dockyard/v1.1.0")
    calm.write({"src/main.py": "by hand = 1\n"})
    git(calm.root, "checkout", "--quiet", "trunk")
    other.write({"src/main.py": "ours = 1\n"})
    before = calm.state()

    found = rows(dockyard, "update", fleet.folder, code=1)
    assert states(found) == {"calm-svc": "error", "other-svc": "updated"}
    assert "has commits that are not an update by Dockyard" in found["calm-svc"]["message"]
    assert calm.state() == before

    fleet.release_again()
    assert states(rows(dockyard, "update", fleet.folder, code=0))["calm-svc"] == "updated"
    assert branches(calm) == ["dockyard/v1.1.0", "dockyard/v1.2.0"]


def test_a_dry_run_writes_nothing(dockyard: Dockyard, fleet: Fleet) -> None:
    made = [fleet.add("calm-svc"), fleet.add("torn-svc", IN_CONFLICT)]
    fleet.release()
    before = [each.state() for each in made]

    found = rows(dockyard, "update", fleet.folder, "--dry-run", code=1)

    assert states(found) == {"calm-svc": "outdated", "torn-svc": "blocked"}
    assert [each.state() for each in made] == before


def test_in_place_leaves_no_conflict_in_a_working_tree(dockyard: Dockyard, fleet: Fleet) -> None:
    calm, torn = fleet.add("calm-svc"), fleet.add("torn-svc", IN_CONFLICT)
    fleet.release()
    before = torn.state()

    found = rows(dockyard, "update", fleet.folder, "--in-place", code=1)

    assert states(found) == {"calm-svc": "updated", "torn-svc": "blocked"}
    assert torn.state() == before
    assert (calm.root / "added.txt").read_text() == "added\n"
    assert branches(calm) == []


def test_uncommitted_work_keeps_a_service_from_being_updated(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    busy = fleet.add("busy-svc")
    fleet.add("calm-svc")
    fleet.release()
    (busy.root / "Makefile").write_text("in the middle of something\n")
    before = busy.state()

    found = rows(dockyard, "update", fleet.folder, "--in-place", code=1)

    assert states(found) == {"busy-svc": "error", "calm-svc": "updated"}
    assert busy.state() == before


@pytest.mark.parametrize("options", [("--in-place",), ()])
def test_services_of_one_repository_are_updated_together(
    dockyard: Dockyard, fleet: Fleet, options: tuple[str, ...]
) -> None:
    mono = fleet.folder / "mono"
    names = [f"{letter}-svc" for letter in "abcdef"]
    for name in names:
        services.render_into(fleet.template, mono / name, "v1.0.0")
    git(mono, "init", "--quiet")
    services.Made(mono).write({})
    fleet.release()

    ran = dockyard("fleet", "update", fleet.folder, "--jobs", "3", *options)

    assert ran.code == 0, ran.out + ran.err
    if options:
        staged = git(mono, "diff", "--cached", "--name-only").split()
        assert [path for path in staged if path.endswith("added.txt")] == [
            f"{name}/added.txt" for name in names
        ]
    else:
        assert branches(Made(mono)) == [f"dockyard/{name}/v1.1.0" for name in names]
        changed = git(mono, "diff", "--name-only", "trunk", "dockyard/b-svc/v1.1.0").split()
        assert changed == [
            f"b-svc/{path}" for path in (".copier-answers.yml", "Makefile", "added.txt")
        ]


def test_the_branch_of_a_service_in_a_folder_with_a_space_is_found_again(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    mono = fleet.folder / "mono"
    services.render_into(fleet.template, mono / "my apps" / "a-svc", "v1.0.0")
    git(mono, "init", "--quiet")
    services.Made(mono).write({})
    fleet.release()
    rows(dockyard, "update", fleet.folder, code=0)

    (found,) = rows(dockyard, "status", fleet.folder, code=0).values()
    assert found["branches"] == ["dockyard/my%20apps/a-svc/v1.1.0"]
    assert rows(dockyard, "update", fleet.folder, "--limit", "1", code=0) == {}
    fleet.release_again()
    rows(dockyard, "update", fleet.folder, code=0)
    assert branches(Made(mono)) == ["dockyard/my%20apps/a-svc/v1.2.0"]


def test_answers_of_the_fleet_are_for_new_questions(dockyard: Dockyard, fleet: Fleet) -> None:
    calm = fleet.add("calm-svc")
    asked = {
        "copier.yml": services.QUESTIONS + "region: {type: str}\n",
        "template/region.txt.jinja": "{{ region }}\n",
    }
    services.release(fleet.template, asked, "v1.1.0")
    file = fleet.folder / "fleet.toml"
    file.write_text('[[services]]\npath = "calm-svc"\n')
    assert states(rows(dockyard, "update", file, code=1)) == {"calm-svc": "error"}

    file.write_text('answers = {region = "eu", owner = "ignored"}\n' + file.read_text())

    assert states(rows(dockyard, "update", file, code=0)) == {"calm-svc": "updated"}
    assert git(calm.root, "show", "dockyard/v1.1.0:region.txt") == "eu\n"
    assert git(calm.root, "show", "dockyard/v1.1.0:tool.ini").startswith("# platform\n")


def test_verified_is_what_passes_its_own_tests(dockyard: Dockyard, fleet: Fleet) -> None:
    good, bad = fleet.add("good-svc", PASSING), fleet.add("bad-svc", FAILING)
    fleet.release()
    before = good.state()["status"]

    found = rows(dockyard, "update", fleet.folder, "--verify", "--max-failures", "1", code=1)

    assert states(found) == {"bad-svc": "failed", "good-svc": "updated"}
    assert "`make test` ended with 2: " in found["bad-svc"]["message"]
    assert "it is broken" in found["bad-svc"]["message"]
    assert (branches(bad), branches(good)) == (["dockyard/v1.1.0"], ["dockyard/v1.1.0"])
    assert good.state()["status"] == before


def test_a_partial_clone_is_verified_with_all_of_its_files(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path
) -> None:
    origin = fleet.add("a-svc", {"GNUmakefile": "test:\n\ttest -s src/main.py -a -s added.txt\n"})
    git(origin.root, "config", "uploadpack.allowFilter", "true")
    git(origin.root, "config", "uploadpack.allowAnySHA1InWant", "true")
    origin.root.rename(tmp_path / "origin")
    how = ("clone", "--quiet", "--filter=blob:none", "--no-checkout")
    git(fleet.folder, *how, (tmp_path / "origin").as_uri(), "a-svc")
    git(fleet.folder / "a-svc", "sparse-checkout", "set", "--no-cone", "/.copier-answers.yml")
    git(fleet.folder / "a-svc", "checkout", "--quiet", "trunk")
    fleet.release()

    found = rows(dockyard, "update", fleet.folder, "--verify", code=0)

    assert states(found) == {"a-svc": "updated"}


@pytest.mark.parametrize(("allowed", "failed"), [(0, 1), (1, 2), (9, 3)])
def test_after_too_many_failures_no_service_is_begun(
    dockyard: Dockyard, fleet: Fleet, allowed: int, failed: int
) -> None:
    for name in ("a-svc", "b-svc", "c-svc"):
        fleet.add(name, FAILING)
    fleet.release()

    found = rows(
        dockyard, "update", fleet.folder, "--verify", "--max-failures", str(allowed), code=1
    )

    assert list(states(found).values()) == ["failed"] * failed + ["skipped"] * (3 - failed)
    for row in found.values():
        assert row["state"] == "failed" or row["message"].startswith("not begun, because of a-svc")
        assert bool(branches(Made(Path(row["place"])))) == (row["state"] == "failed")


def test_in_parallel_none_is_begun_after_too_many_failures_either(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    for number in range(6):
        fleet.add(f"{number}-svc", FAILING)
    fleet.release()

    ran = dockyard("fleet", "update", fleet.folder, "--verify", "--jobs", "2")

    begun = [path.name for path in sorted(fleet.folder.iterdir()) if branches(Made(path))]
    assert ran.code == 1, ran.err
    assert 1 <= len(begun) <= 3, begun


def test_limit_takes_those_that_need_an_update(dockyard: Dockyard, fleet: Fleet) -> None:
    for name in ("b-svc", "c-svc", "d-svc"):
        fleet.add(name)
    fleet.release()
    fleet.add("a-svc", ref="v1.1.0")

    assert states(rows(dockyard, "update", fleet.folder, "--limit", "2", code=0)) == {
        "b-svc": "updated",
        "c-svc": "updated",
    }


def test_limit_takes_others_each_time(dockyard: Dockyard, fleet: Fleet) -> None:
    a, b, c = (fleet.add(name) for name in ("a-svc", "b-svc", "c-svc"))
    fleet.release()

    runs = [
        states(rows(dockyard, "update", fleet.folder, "--limit", "1", code=0)) for _ in range(4)
    ]

    assert runs == [{"a-svc": "updated"}, {"b-svc": "updated"}, {"c-svc": "updated"}, {}]
    b.write({"src/main.py": "ours = 1\n"})
    follows = states(rows(dockyard, "update", fleet.folder, "--limit", "1", code=0))
    assert follows == {"b-svc": "updated"}, "its branch is behind its service"
    fleet.release_again()
    rows(dockyard, "update", fleet.folder, "--limit", "2", code=0)
    assert [branches(each) for each in (a, b, c)] == [
        ["dockyard/v1.2.0"],
        ["dockyard/v1.2.0"],
        ["dockyard/v1.1.0"],
    ]


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--in-place",)])
def test_what_cannot_be_updated_takes_no_place_within_the_limit(
    dockyard: Dockyard, fleet: Fleet, options: tuple[str, ...]
) -> None:
    fleet.add("a-svc", IN_CONFLICT)
    (fleet.add("b-svc").root / ".copier-answers.yml").write_text("[")
    for name in ("c-svc", "d-svc"):
        fleet.add(name)
    fleet.release()

    found = rows(dockyard, "update", fleet.folder, "--limit", "1", *options, code=1)

    done = "outdated" if options == ("--dry-run",) else "updated"
    assert states(found) == {"a-svc": "blocked", "b-svc": "error", "c-svc": done}


@pytest.mark.parametrize(("first", "expected"), [(FAILING, "skipped"), (PASSING, "updated")])
def test_the_others_follow_only_a_canary_that_is_well(
    dockyard: Dockyard, fleet: Fleet, first: dict[str, str], expected: str
) -> None:
    fleet.add("a-svc", first)
    for name in ("b-svc", "c-svc"):
        fleet.add(name, PASSING)
    fleet.release()

    options = ("--canary", "1", "--verify", "--max-failures", "5")
    found = rows(dockyard, "update", fleet.folder, *options, code=0 if expected == "updated" else 1)

    assert [row["state"] for name, row in found.items() if name != "a-svc"] == [expected, expected]
    assert found["a-svc"]["state"] == ("updated" if first is PASSING else "failed")


def test_a_canary_with_conflicts_of_its_own_leaves_its_place_to_the_next(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    fleet.add("a-svc", {**IN_CONFLICT, **FAILING})
    fleet.add("b-svc", FAILING)
    fleet.add("c-svc", PASSING)
    fleet.release()

    options = ("--canary", "1", "--verify", "--max-failures", "5")
    found = rows(dockyard, "update", fleet.folder, *options, code=1)

    assert states(found) == {"a-svc": "blocked", "b-svc": "failed", "c-svc": "skipped"}


WAVES = """\
[[waves]]
name = "canaries"
services = ["b-svc"]
groups = ["early"]
until = "merged"
[[services]]
path = "a-svc"
[[services]]
path = "b-svc"
[[services]]
path = "c-svc"
groups = ["early"]
"""


def test_a_wave_waits_until_the_one_before_is_merged(dockyard: Dockyard, fleet: Fleet) -> None:
    a, b, c = (fleet.add(name) for name in ("a-svc", "b-svc", "c-svc"))
    (fleet.folder / "fleet.toml").write_text(WAVES)
    fleet.release()

    for options in ((), ("--limit", "5")):
        found = rows(dockyard, "update", fleet.folder, *options, code=0)
        assert found["a-svc"]["state"] == "waiting"
        assert found["a-svc"]["message"].endswith("the wave canaries waits for b-svc, c-svc")
        assert (branches(a), branches(b)) == ([], ["dockyard/v1.1.0"])

    git(b.root, "merge", "--quiet", "dockyard/v1.1.0")
    found = rows(dockyard, "update", fleet.folder, code=0)
    assert states(found) == {"a-svc": "waiting", "c-svc": "updated"}

    git(c.root, "merge", "--quiet", "dockyard/v1.1.0")
    assert states(rows(dockyard, "update", fleet.folder, code=0)) == {"a-svc": "updated"}


def test_a_wave_does_not_wait_for_a_service_with_trouble_of_its_own(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    fleet.add("a-svc")
    fleet.add("b-svc", IN_CONFLICT)
    (fleet.add("c-svc").root / "Makefile").write_text("in the middle of something\n")
    (fleet.folder / "fleet.toml").write_text(WAVES)
    fleet.release()

    found = rows(dockyard, "update", fleet.folder, code=1)

    assert states(found) == {"a-svc": "updated", "b-svc": "blocked", "c-svc": "error"}


def test_data_answers_for_every_service_and_the_file_for_groups(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    a, b = fleet.add("a-svc"), fleet.add("b-svc")
    asked = {
        "copier.yml": services.QUESTIONS + "region: {type: str}\n",
        "template/region.txt.jinja": "{{ region }}\n",
    }
    services.release(fleet.template, asked, "v1.1.0")
    (fleet.folder / "fleet.toml").write_text(
        'answers = {region = "eu"}\n[groups.far]\nanswers = {region = "us"}\n'
        '[[services]]\npath = "a-svc"\n[[services]]\npath = "b-svc"\ngroups = ["far"]\n'
    )

    rows(dockyard, "update", fleet.folder, "--data", "owner=ops", "--in-place", code=0)

    assert [(made.root / "region.txt").read_text() for made in (a, b)] == ["eu\n", "us\n"]
    assert (a.root / "tool.ini").read_text().startswith("# ops\n")
    assert dockyard("fleet", "update", fleet.folder, "--data", "owner").code == 2


@pytest.mark.parametrize(
    "options",
    [
        ("--in-place", "--push"),
        ("--in-place", "--verify"),
        ("--dry-run", "--pr"),
        ("--dry-run", "--verify"),
    ],
)
def test_options_that_cannot_go_together_are_refused(
    dockyard: Dockyard, fleet: Fleet, options: tuple[str, str]
) -> None:
    made = fleet.add("a-svc")
    fleet.release()
    before = made.state()

    ran = dockyard("fleet", "update", fleet.folder, *options)

    assert ran.code == 2
    assert all(option in ran.err for option in options)
    assert made.state() == before


@pytest.mark.parametrize("command", ["update", "status", "diff"])
def test_a_version_that_no_template_has_is_one_mistake(
    dockyard: Dockyard, fleet: Fleet, command: str
) -> None:
    for name in ("a-svc", "b-svc"):
        fleet.add(name)

    ran = dockyard("fleet", command, fleet.folder, "--to", "v9")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("--to 'v9' is no tag, branch or commit") == 1


def test_a_version_that_one_template_has_is_an_error_of_the_others(
    dockyard: Dockyard, fleet: Fleet
) -> None:
    fleet.add("a-svc")
    other = fleet.folder.parent / "other"
    git(fleet.folder, "clone", "--quiet", str(fleet.template.path), str(other))
    fleet.add("b-svc", {".copier-answers.yml": f"_src_path: {other}\n_commit: v1.0.0\n"})
    fleet.release()

    found = rows(dockyard, "update", fleet.folder, "--to", "v1.1.0", code=1)

    assert states(found) == {"a-svc": "updated", "b-svc": "error"}


def test_a_fleet_of_nothing_is_refused(dockyard: Dockyard, fleet: Fleet) -> None:
    ran = dockyard("fleet", "update", fleet.folder)
    assert ran.code == 2
    assert f"there is no fleet at {fleet.folder}" in ran.err


def test_lines_of_a_team_survive_in_every_service(dockyard: Dockyard, fleet: Fleet) -> None:
    made = fleet.add("a-svc", DRIFTED)
    fleet.release()
    rows(dockyard, "update", fleet.folder, code=0)

    merged = LINES.replace("line 2\n", "line 2, newer\n").replace("line 19\n", "line 19, ours\n")
    assert git(made.root, "show", "dockyard/v1.1.0:Makefile") == merged

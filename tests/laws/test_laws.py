"""The laws that hold for every update, on small random templates and services."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import copier
from hypothesis import given
from hypothesis import strategies as st

from dockyard import commands
from dockyard.commands import Outcome, Updated
from dockyard.errors import DockyardError
from tests.laws import faults, model
from tests.laws.ground import Ground, git
from tests.laws.model import File, Files, Scenario
from tests.laws.scenarios import lossless, scenarios
from tests.laws.tally import counted, law


@law(share=0.2)
@given(scenario=scenarios(edited=False))
@counted
def test_an_untouched_service_becomes_a_fresh_render(ground: Ground, scenario: Scenario) -> None:
    ground.lay_out(scenario)
    done = commands.update(ground.service, in_place=True)
    assert done.conflicts == 0
    assert ground.files() == model.untouched_after(scenario)


@law(share=0.23)
@given(scenario=scenarios())
@counted
def test_each_line_of_the_team_is_in_the_result_or_in_a_reported_conflict(
    ground: Ground, scenario: Scenario
) -> None:
    ground.lay_out(scenario)
    done = commands.update(ground.service, in_place=True)
    there = model.lines(ground.files(), "team") | model.lines(
        sides_of_conflicts(ground, done), "team"
    )
    assert model.lines(scenario.service, "team") <= there


@law(share=0.05)
@given(scenario=scenarios())
@counted
def test_the_teams_files_stay_to_the_byte(ground: Ground, scenario: Scenario) -> None:
    ground.lay_out(scenario)
    commands.update(ground.service, in_place=True)
    newest, before, after = scenario.versions[-1], scenario.service, ground.files()
    assert {path: after.get(path) for path in before if model.owns(newest, path)} == {
        path: file for path, file in before.items() if model.owns(newest, path)
    }
    laid_down = {path for path in after if model.owns(newest, path)} - before.keys()
    assert laid_down.isdisjoint(scenario.first_render), "a file that the team had deleted came back"


@law(share=0.14)
@given(scenario=scenarios(), way=st.sampled_from(["in place", "on a branch", "release by release"]))
@counted
def test_what_a_dry_run_predicts_comes_true(ground: Ground, scenario: Scenario, way: str) -> None:
    ground.lay_out(scenario)
    before = ground.state()
    by_release = way == "release by release"
    predicted = commands.update(ground.service, dry_run=True, by_release=by_release)
    assert ground.state() == before
    done = commands.update(ground.service, in_place=way == "in place", by_release=by_release)
    assert (done.tree, outcomes(done)) == (predicted.tree, outcomes(predicted))
    if done.outcome is Outcome.WRITTEN:
        assert ground.files() == ground.files(predicted.tree)
        assert bool(git(ground.service, "ls-files", "--unmerged")) == bool(predicted.conflicts)
    elif done.committed is not None:
        branch = done.committed.branch
        assert (
            git(ground.service, "rev-parse", f"{branch}:{scenario.place}").strip() == predicted.tree
        )
        assert ground.state()["files"] == before["files"]
        assert model.lines(scenario.service, "team") <= model.lines(
            ground.files(predicted.tree), "team"
        )
        assert int(git(ground.service, "rev-list", "--count", f"HEAD..{branch}")) == len(done.plans)
        changed = git(ground.top, "diff", "--name-only", "-z", "HEAD", branch).split("\0")[:-1]
        assert all(path.startswith(scenario.place) for path in changed), (
            "something of a neighbour's"
        )
    else:
        assert done.outcome in {Outcome.BLOCKED, Outcome.NOTHING}
        assert ground.state() == before


@law(share=0.1)
@given(scenario=scenarios())
@counted
def test_updating_twice_is_updating_once(ground: Ground, scenario: Scenario) -> None:
    ground.lay_out(scenario)
    commands.update(ground.service, in_place=True)
    ground.commit("the update, its conflicts as they are")
    once = ground.state()
    assert commands.update(ground.service, in_place=True).outcome is Outcome.NOTHING
    assert ground.state() == once


@law(share=0.1)
@given(
    scenario=scenarios(),
    step=faults.STEPS,
    in_place=st.booleans(),
    fault=st.sampled_from([faults.full_disk, faults.interrupt]),
)
@counted
def test_a_failure_at_any_step_leaves_the_service_as_it_was(
    ground: Ground, scenario: Scenario, step: faults.Step, in_place: bool, fault: Callable[[], None]
) -> None:
    ground.lay_out(scenario)
    before = ground.state()
    try:
        with faults.at(step, fault):
            # On a branch no file moves.
            commands.update(ground.service, in_place=in_place or step.is_move)
    except (DockyardError, OSError, faults.Interrupted):
        assert ground.state() == before


@law(share=0.06)
@given(scenario=scenarios(), step=faults.STEPS)
@counted
def test_a_killed_update_is_done_or_undone_by_the_next_command(
    ground: Ground, scenario: Scenario, step: faults.Step
) -> None:
    ground.lay_out(scenario)
    before = ground.state()
    predicted = commands.update(ground.service, dry_run=True)

    def update_until_killed() -> None:
        with faults.at(step, faults.kill):
            commands.update(ground.service, in_place=True)

    faults.survived(update_until_killed)
    # With conflicts or a finished update the service is not clean. The command tidies up, says so.
    with suppress(DockyardError):
        commands.update(ground.service, dry_run=True)
    assert ground.state() == before or ground.files() == ground.files(predicted.tree)


@law(share=0.04)
@given(scenario=scenarios(), seed=st.integers(0, 1000), share=st.sampled_from([0.02, 0.2, 1.0]))
@counted
def test_a_damaged_cache_changes_no_update(
    ground: Ground, home: Path, scenario: Scenario, seed: int, share: float
) -> None:
    ground.lay_out(scenario)
    predicted = commands.update(ground.service, dry_run=True)
    faults.damage(home / "cache", seed, share)
    done = commands.update(ground.service, in_place=True)
    assert (done.tree, outcomes(done)) == (predicted.tree, outcomes(predicted))
    assert ground.files() == ground.files(predicted.tree)


@law(share=0.03)
@given(
    scenario=scenarios(),
    config=st.fixed_dictionaries(
        {}, optional={key: st.sampled_from(said) for key, said in faults.HOSTILE.items()}
    ),
)
@counted
def test_the_users_git_configuration_changes_no_update(
    ground: Ground, scenario: Scenario, config: Mapping[str, str]
) -> None:
    ground.lay_out(scenario)
    predicted = commands.update(ground.service, dry_run=True)
    with faults.configured(config):
        again = commands.update(ground.service, dry_run=True)
    assert (again.tree, outcomes(again)) == (predicted.tree, outcomes(predicted))


@law(share=0.02)
@given(scenario=scenarios(), left_out=st.sampled_from(["blob:none", "tree:0"]))
@counted
def test_a_partial_clone_is_updated_as_a_whole_one(
    ground: Ground, scenario: Scenario, left_out: str
) -> None:
    ground.lay_out(scenario)
    predicted = commands.update(ground.service, dry_run=True)
    ground.leave_with_remote(left_out)
    part = commands.update(ground.service, dry_run=True)
    assert (part.tree, outcomes(part)) == (predicted.tree, outcomes(predicted))


@law(share=0.03)
@given(scenario=lossless())
@counted
def test_dockyard_and_copier_agree_where_copier_loses_nothing(
    ground: Ground, scenario: Scenario
) -> None:
    ground.lay_out(scenario)
    done = commands.update(ground.service, in_place=True)
    ours = managed(scenario, ground.files())
    git(ground.service, "reset", "--quiet", "--hard")
    newest = f"v{len(scenario.versions)}.0.0"
    copier.run_update(ground.service, vcs_ref=newest, defaults=True, overwrite=True, quiet=True)
    theirs = managed(scenario, ground.files())
    disputed = {file.path for plan in done.plans for file in plan.merge.conflicts}
    assert {path: file for path, file in ours.items() if path not in disputed} == {
        path: file for path, file in theirs.items() if path not in disputed
    }


def managed(scenario: Scenario, files: Files) -> Files:
    return {
        path: file for path, file in files.items() if not model.owns(scenario.versions[-1], path)
    }


def outcomes(done: Updated) -> list[tuple[object, ...]]:
    """What becomes of each path."""
    return [
        (file.path, file.state, file.conflict) for plan in done.plans for file in plan.merge.files
    ]


def sides_of_conflicts(ground: Ground, done: Updated) -> Files:
    """All sides of the files that `done` reports as conflicts, as the service's index has them."""
    reported = {file.path for plan in done.plans for file in plan.merge.conflicts}
    listed = git(ground.service, "ls-files", "--unmerged", "-z").split("\0")[:-1]
    sides = {}
    for line in listed:
        meta, path = line.split("\t", 1)
        if path in reported:
            oid = meta.split(" ")[1]
            sides[meta] = File(os.fsencode(git(ground.service, "cat-file", "blob", oid)))
    return sides

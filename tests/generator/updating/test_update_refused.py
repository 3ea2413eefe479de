"""What an update refuses: a sentence that says how to mend it, exit code 2, nothing changed."""

import os
import shutil
from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER: dict[str, str | bytes | None] = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n")
}


@pytest.mark.parametrize("mode", [[], ["--in-place"], ["--dry-run"]])
def test_uncommitted_changes(
    refused: Dockyard, evolving: Repository, service: Made, mode: list[str]
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    (service.root / "README.md").write_text("not committed\n")

    ran = refused("update", service.root, *mode)

    assert "has 1 uncommitted change: commit them, or put them aside with `git stash`" in ran.err


def test_files_unknown_to_git_are_no_hindrance(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    (service.root / "scratch.txt").write_text("mine\n")

    assert dockyard("update", service.root).code == 0


@pytest.mark.parametrize("option", ["--in-place", "--dry-run", "--step"])
@pytest.mark.parametrize("in_the_way", ["added/deep.txt", "added"])
def test_a_file_unknown_to_git_where_the_update_would_write(
    refused: Dockyard, evolving: Repository, service: Made, in_the_way: str, option: str
) -> None:
    services.release(evolving, {"template/added/deep.txt": "newer\n"}, "v1.1.0")
    # Ignored too: the merge of a branch writes over an ignored file without a word.
    (service.root / ".git/info/exclude").write_text("added\n")
    services.lay_down(service.root, {in_the_way: "mine\n"})

    ran = refused("update", service.root, option)

    assert f"this would write over {in_the_way}, unknown to git" in ran.err


def test_a_merge_that_is_not_finished(
    refused: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    git(service.root, "switch", "--quiet", "--create", "other")
    service.write({"Makefile": "theirs\n"})
    git(service.root, "switch", "--quiet", "trunk")
    service.write({"Makefile": "ours\n"})
    with pytest.raises(Exception, match="merge"):
        git(service.root, "merge", "--quiet", "other")

    assert (
        "has a merge that is not finished: solve its conflicts"
        in refused("update", service.root).err
    )


def test_a_template_that_is_gone(refused: Dockyard, evolving: Repository, service: Made) -> None:
    evolving.path.rename(evolving.path.with_name("elsewhere"))

    assert (
        f"cannot reach the template {evolving.path}: there is no such folder"
        in refused("update", service.root).err
    )


def test_a_template_that_does_not_answer(refused: Dockyard, service: Made, tmp_path: Path) -> None:
    url = (tmp_path / "absent.git").as_uri()
    answers = service.root / ".copier-answers.yml"
    service.write({answers.name: answers.read_text().replace(str(tmp_path / "evolving"), url)})

    assert f"cannot reach the template {url}" in refused("update", service.root).err


def test_a_template_that_answered_once_serves_when_it_does_not(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(evolving.path), str(bare))
    answers = service.root / ".copier-answers.yml"
    service.write({answers.name: answers.read_text().replace(str(evolving.path), bare.as_uri())})
    services.release(evolving, NEWER, "v1.1.0")
    git(evolving.path, "push", "--quiet", str(bare), "--tags", "HEAD")
    assert dockyard("check", service.root).code == 1
    shutil.rmtree(bare)

    ran = dockyard("update", service.root)

    assert ran.code == 0, ran.err
    assert f"{bare.as_uri()} does not answer; its copy from the last time is used." in ran.err
    assert git(service.root, "show", "dockyard/v1.1.0:Makefile") == NEWER["template/Makefile"]


def test_a_recorded_commit_that_is_gone_names_the_nearest(
    refused: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, {"template/old.cfg": "far\n", **NEWER}, "v1.1.0")
    answers = service.root / ".copier-answers.yml"
    service.write({answers.name: answers.read_text().replace("v1.0.0", "v0.9.0")})

    ran = refused("update", service.root)

    assert f"{evolving.path} does not have v0.9.0, which rendered this service" in ran.err
    assert "Nearest to the service is v1.0.0 (4 of 4 managed files are the same)" in ran.err


def test_an_older_version(
    refused: Dockyard, evolving: Repository, into: Path, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    git(service.root, "rm", "-rq", ".")
    services.render_into(evolving, into / "newer", "v1.1.0", service_name="billing-svc")
    shutil.copytree(into / "newer", service.root, dirs_exist_ok=True)
    service.write({})

    ran = refused("update", service.root, "--to", "v1.0.0")

    assert "v1.0.0 is older than v1.1.0, which the service has: updates go forward only" in ran.err


def test_a_version_that_nobody_knows(refused: Dockyard, service: Made) -> None:
    assert "'v9' is no tag, branch or commit" in refused("update", service.root, "--to", "v9").err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("owner: [unclosed\n", "cannot be used: while parsing"),
        ("- a list\n", "it holds no answers"),
        ("owner: platform\n", "_src_path and _commit is missing, or is not a text"),
        ("_src_path: x\n_commit: 12\n", "_commit is missing, or is not a text"),
        (b"\xff\xfe", "cannot be used: 'utf-8'"),
    ],
)
def test_a_broken_answers_file(
    refused: Dockyard, service: Made, text: str | bytes, sentence: str
) -> None:
    service.write({".copier-answers.yml": text})

    ran = refused("update", service.root)

    assert sentence in ran.err
    assert "git checkout HEAD -- .copier-answers.yml" in ran.err


def test_no_answers_file(refused: Dockyard, service: Made) -> None:
    service.write({".copier-answers.yml": None})

    ran = refused("update", service.root)

    assert "it has no .copier-answers.yml" in ran.err
    assert "`dockyard adopt`" in ran.err


def test_a_tag_that_moves(
    refused: Dockyard, evolving: Repository, into: Path, service: Made
) -> None:
    git(evolving.path, "tag", "v1")
    answers = service.root / ".copier-answers.yml"
    service.write({answers.name: answers.read_text().replace("v1.0.0", "v1")})
    services.release(evolving, NEWER, "v1.2.0")
    git(evolving.path, "tag", "--force", "v1")

    ran = refused("update", service.root)

    assert "records v1, a tag that moves and now marks v1.2.0" in ran.err
    assert "Nearest to the service is v1.0.0" in ran.err


def test_a_short_tag_that_does_not_move_is_a_version(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    git(evolving.path, "tag", "v1")
    answers = service.root / ".copier-answers.yml"
    service.write({answers.name: answers.read_text().replace("v1.0.0", "v1")})
    services.release(evolving, NEWER, "v1.2.0")

    assert dockyard("update", service.root).code == 0


def test_what_is_uncommitted_in_the_template_is_told(
    dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    (evolving.path / "template/old.cfg").write_text("not committed\n")

    ran = dockyard("update", service.root)

    assert f"1 uncommitted changes in {evolving.path} are not part of the update." in ran.err
    assert "not committed" not in git(service.root, "show", "dockyard/v1.1.0:old.cfg")


def test_a_git_that_is_too_old(
    refused: Dockyard,
    evolving: Repository,
    service: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    real = shutil.which("git")
    shim = tmp_path / "bin/git"
    services.lay_down(
        tmp_path,
        {
            "bin/git": f'#!/bin/sh\n[ "$3" = version ] && echo git version 2.37.9 && exit\n'
            f'exec {real} "$@"\n'
        },
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(shim.parent), os.environ["PATH"]]))

    ran = refused("update", service.root)

    assert "git 2.37.9 is too old: updates need git 2.38 or newer." in ran.err


def test_a_folder_that_is_in_no_repository(
    dockyard: Dockyard, evolving: Repository, into: Path
) -> None:
    services.render_into(evolving, into / "plain-svc")

    ran = dockyard("update", into / "plain-svc")

    assert ran.code == 2
    assert "Make it a git repository and commit it first." in ran.err


def test_a_repository_without_a_commit(
    dockyard: Dockyard, evolving: Repository, into: Path
) -> None:
    services.render_into(evolving, into / "plain-svc")
    git(into / "plain-svc", "init", "--quiet")

    assert "git has no commit of it. Commit it first." in dockyard("update", into / "plain-svc").err


def test_a_folder_that_is_not_there(dockyard: Dockyard, into: Path) -> None:
    assert "there is no such folder" in dockyard("update", into / "absent").err


def test_a_branch_with_commits_of_people(
    refused: Dockyard, dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    dockyard("update", service.root)
    git(service.root, "switch", "--quiet", "dockyard/v1.1.0")
    service.write({"src/main.py": "by hand\n"})
    git(service.root, "switch", "--quiet", "trunk")

    ran = refused("update", service.root)

    assert "the branch dockyard/v1.1.0 has commits that are not an update by Dockyard" in ran.err


def test_an_amended_update_is_peoples_work(
    refused: Dockyard, dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    dockyard("update", service.root)
    git(service.root, "switch", "--quiet", "dockyard/v1.1.0")
    (service.root / "src/main.py").write_text("by hand\n")
    git(service.root, "commit", "--quiet", "--all", "--amend", "--no-edit")
    git(service.root, "switch", "--quiet", "trunk")
    service.write({})

    assert "has commits that are not an update by Dockyard" in refused("update", service.root).err


def test_a_branch_that_is_checked_out(
    refused: Dockyard, dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    dockyard("update", service.root)
    git(service.root, "worktree", "add", "--quiet", str(tmp_path / "beside"), "dockyard/v1.1.0")
    service.write({"src/main.py": "more\n"})

    assert f"is checked out in {tmp_path / 'beside'}" in refused("update", service.root).err


@pytest.mark.parametrize("name", ["dockyard", "dockyard/v1.1.0/mine"])
def test_a_branch_that_bars_the_way_is_named(
    refused: Dockyard, evolving: Repository, service: Made, name: str
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    git(service.root, "branch", name)

    ran = refused("update", service.root)

    assert f"the branch {name} leaves no place for dockyard/v1.1.0" in ran.err
    assert f"`git branch -D {name}`" in ran.err


def test_a_branch_that_is_another_name_of_the_teams(
    refused: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    git(service.root, "symbolic-ref", "refs/heads/dockyard/v1.1.0", "refs/heads/trunk")

    ran = refused("update", service.root)

    assert "the branch dockyard/v1.1.0 is only another name of trunk" in ran.err


def test_a_question_that_nobody_asks(
    refused: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(evolving, NEWER, "v1.1.0")

    assert "does not ask 'ownr'" in refused("update", service.root, "--data", "ownr=x").err


def test_an_answer_that_is_refused(refused: Dockyard, evolving: Repository, service: Made) -> None:
    services.release(evolving, NEWER, "v1.1.0")

    ran = refused("update", service.root, "--data", "owner=LOUD")

    assert "the answer to owner is refused: must be lower case" in ran.err


def test_a_new_question_without_default(
    refused: Dockyard, dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    services.release(
        evolving, {"copier.yml": f"{services.QUESTIONS}region: {{type: str}}\n"}, "v1.1.0"
    )

    ran = refused("update", service.root)

    assert (
        "the answer to region is refused: is required; give another answer with --data region=…"
        in ran.err
    )
    assert dockyard("update", service.root, "--data", "region=eu").code == 0


def test_a_recorded_answer_that_is_not_allowed_any_more(
    refused: Dockyard, dockyard: Dockyard, evolving: Repository, service: Made
) -> None:
    narrow = services.QUESTIONS.replace(
        "owner:\n  type: str\n", "owner:\n  choices: [core, data]\n  type: str\n"
    )
    services.release(
        evolving, {"copier.yml": narrow.replace("default: platform", "default: core")}, "v1.1.0"
    )

    ran = refused("update", service.root)

    assert (
        "the answer to owner is refused: "
        "'platform', recorded by this service, is not allowed in v1.1.0" in ran.err
    )
    assert dockyard("update", service.root, "--data", "owner=data").code == 0


def test_options_that_exclude_each_other(refused: Dockyard, service: Made) -> None:
    assert (
        "--in-place and --step cannot go together"
        in refused("update", service.root, "--in-place", "--step").err
    )


def test_git_at_work_in_the_service(refused: Dockyard, evolving: Repository, service: Made) -> None:
    services.release(evolving, NEWER, "v1.1.0")
    (service.root / ".git/index.lock").touch()

    assert (
        "git is at work there, or was killed and left"
        in refused("update", service.root, "--in-place").err
    )

"""Services in repositories elsewhere: brought here, updated in a clone, pushed, pull request."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from dockyard.fleet import forge_programs
from tests.generator import services
from tests.generator.fleet.conftest import IN_CONFLICT, Fleet, rows, states
from tests.generator.lab import Dockyard, git
from tests.generator.services import LINES, Made


@pytest.fixture
def remote(fleet: Fleet, tmp_path: Path) -> Path:
    """The bare repository of a service, and a fleet file that names it."""
    work = fleet.add("a-svc")
    bare = tmp_path / "remotes" / "a-svc.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(work.root), str(bare))
    work.root.rename(tmp_path / "work")
    (fleet.folder / "fleet.toml").write_text(f'[[services]]\nurl = "{bare}"\n')
    return bare


def pushed(bare: Path) -> list[str]:
    return git(
        bare, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/dockyard/"
    ).splitlines()


def by_hand(bare: Path, work: Path, branch: str) -> str:
    """A commit of a person on `branch` of the remote."""
    git(work, "fetch", "--quiet", str(bare), branch)
    git(work, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    Made(work).write({"src/main.py": "by hand = 1\n"})
    git(work, "push", "--quiet", str(bare), f"HEAD:refs/heads/{branch}")
    return git(work, "rev-parse", "HEAD")


def test_a_remote_service_is_updated_here_and_pushed_only_when_asked(
    dockyard: Dockyard, fleet: Fleet, remote: Path
) -> None:
    fleet.release()
    assert rows(dockyard, "status", fleet.folder, code=0)["a-svc"]["place"] == str(remote)

    unpushed = rows(dockyard, "update", fleet.folder, code=0)["a-svc"]
    assert (unpushed["state"], pushed(remote)) == ("updated", [])
    assert "--push" in unpushed["message"]

    assert states(rows(dockyard, "update", fleet.folder, "--push", code=0)) == {"a-svc": "updated"}
    assert pushed(remote) == ["dockyard/v1.1.0"]
    assert git(remote, "show", "dockyard/v1.1.0:added.txt") == "added\n"
    assert rows(dockyard, "status", fleet.folder, code=0)["a-svc"]["branches"] == [
        "dockyard/v1.1.0"
    ]

    once = git(remote, "rev-parse", "dockyard/v1.1.0")
    rows(dockyard, "update", fleet.folder, "--push", code=0)
    assert git(remote, "rev-parse", "dockyard/v1.1.0") == once


def test_what_is_new_in_the_remote_counts(
    dockyard: Dockyard, fleet: Fleet, remote: Path, tmp_path: Path
) -> None:
    fleet.release()
    rows(dockyard, "status", fleet.folder, code=0)
    Made(tmp_path / "work").write(IN_CONFLICT)
    git(tmp_path / "work", "push", "--quiet", str(remote), "trunk")

    assert states(rows(dockyard, "status", fleet.folder, code=1)) == {"a-svc": "blocked"}


def test_commits_of_people_on_a_pushed_branch_are_left_alone_and_reported(
    dockyard: Dockyard, fleet: Fleet, remote: Path, tmp_path: Path
) -> None:
    fleet.release()
    rows(dockyard, "update", fleet.folder, "--push", code=0)
    hand = by_hand(remote, tmp_path / "work", "dockyard/v1.1.0")

    found = rows(dockyard, "update", fleet.folder, "--push", code=1)

    assert states(found) == {"a-svc": "error"}
    assert "has commits that are not an update by Dockyard" in found["a-svc"]["message"]
    fleet.release_again()
    assert states(rows(dockyard, "update", fleet.folder, "--push", code=0)) == {"a-svc": "updated"}
    assert pushed(remote) == ["dockyard/v1.1.0", "dockyard/v1.2.0"]
    assert git(remote, "rev-parse", "dockyard/v1.1.0") == hand


def test_a_checkouts_push_replaces_dockyards_own_branches_only(
    dockyard: Dockyard, fleet: Fleet, remote: Path, tmp_path: Path
) -> None:
    (fleet.folder / "fleet.toml").unlink()
    git(fleet.folder, "clone", "--quiet", str(remote), "a-svc")
    service = Made(fleet.folder / "a-svc")
    fleet.release()
    rows(dockyard, "update", fleet.folder, "--push", code=0)
    service.write({"src/main.py": "ours = 1\n"})
    rows(dockyard, "update", fleet.folder, "--push", code=0)
    assert git(remote, "rev-parse", "dockyard/v1.1.0") == git(
        service.root, "rev-parse", "dockyard/v1.1.0"
    )

    hand = by_hand(remote, tmp_path / "work", "dockyard/v1.1.0")
    found = rows(dockyard, "update", fleet.folder, "--push", code=1)

    assert (
        "cannot be pushed: it has commits in origin that Dockyard did not make"
        in found["a-svc"]["message"]
    )
    assert git(remote, "rev-parse", "dockyard/v1.1.0") == hand


def test_a_newer_update_takes_back_the_pushed_branch_of_the_older(
    dockyard: Dockyard, fleet: Fleet, remote: Path
) -> None:
    fleet.release()
    rows(dockyard, "update", fleet.folder, "--push", code=0)
    fleet.release_again()

    rows(dockyard, "update", fleet.folder, "--push", code=0)

    assert pushed(remote) == ["dockyard/v1.2.0"]


def test_with_a_limit_what_is_not_pushed_yet_is_pushed(
    dockyard: Dockyard, fleet: Fleet, remote: Path
) -> None:
    (fleet.folder / "fleet.toml").unlink()
    git(fleet.folder, "clone", "--quiet", str(remote), "a-svc")
    fleet.release()
    rows(dockyard, "update", fleet.folder, code=0)

    assert states(rows(dockyard, "update", fleet.folder, "--limit", "1", "--push", code=0)) == {
        "a-svc": "updated"
    }
    assert pushed(remote) == ["dockyard/v1.1.0"]
    assert states(rows(dockyard, "update", fleet.folder, "--limit", "1", "--push", code=0)) == {}


def test_two_services_of_one_remote_repository_share_a_clone(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path, home: Path
) -> None:
    mono = tmp_path / "mono"
    for name in ("a-svc", "b-svc"):
        services.render_into(fleet.template, mono / name, "v1.0.0")
    git(mono, "init", "--quiet")
    Made(mono).write({})
    bare = tmp_path / "mono.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(mono), str(bare))
    lines = [f'[[services]]\nurl = "{bare}"\nfolder = "{name}"\n' for name in ("a-svc", "b-svc")]
    (fleet.folder / "fleet.toml").write_text("".join(lines))
    fleet.release()

    ran = dockyard("fleet", "update", fleet.folder, "--push", "--jobs", "2")

    assert ran.code == 0, ran.out + ran.err
    assert pushed(bare) == ["dockyard/a-svc/v1.1.0", "dockyard/b-svc/v1.1.0"]
    assert (
        len([path for path in (home / ".cache/dockyard/services").iterdir() if path.is_dir()]) == 1
    )


def test_a_repository_that_does_not_answer_stops_no_other(
    dockyard: Dockyard, fleet: Fleet, remote: Path
) -> None:
    file = fleet.folder / "fleet.toml"
    file.write_text(file.read_text() + '[[services]]\nurl = "/nowhere/b-svc.git"\n')

    found = rows(dockyard, "status", file, code=1)

    assert states(found) == {"a-svc": "current", "b-svc": "error"}
    assert "cannot bring b-svc here from /nowhere/b-svc.git" in found["b-svc"]["message"]
    assert dockyard("fleet", "diff", file).code == 1


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{dedent(text)}")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


PAGE = "https://forge.example/pull/7"
OPEN = {
    "gh": [{"url": PAGE, "isCrossRepository": False}],
    "glab": [{"web_url": PAGE, "iid": 7, "source_project_id": 1, "target_project_id": 1}],
}
FROM_A_FORK = {
    "gh": [{"url": "https://forge.example/pull/1", "isCrossRepository": True}],
    "glab": [
        {
            "web_url": "https://forge.example/pull/1",
            "iid": 1,
            "source_project_id": 2,
            "target_project_id": 1,
        },
    ],
}
HOSTS = {"gh": "github.com", "glab": "gitlab.com"}


class Forge:
    """A fake `gh` or `glab`: says which pull requests are open, and notes what else it is asked."""

    def __init__(self, tool: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tool, self._folder = tool, folder
        self._asked, self.refusal = folder / "asked", folder / "refusal"
        text = f"""\
            if [ -e {folder}/refusal ]; then cat {folder}/refusal >&2; exit 4; fi
            if [ "$2" = list ]; then
              printf '%s ' "$@" > {folder}/search
              cat {folder}/open
              exit
            fi
            printf '%s\\n' "$@" > {folder}/asked
            echo "Creating pull request"
            echo {PAGE}
            """
        program(folder, tool, text, monkeypatch)
        self.open(FROM_A_FORK[tool])

    def open(self, requests: object) -> None:
        """Let these be the open ones of the branch."""
        (self._folder / "open").write_text(json.dumps(requests))

    def asked(self) -> list[str]:
        """The last words that opened or changed something; they are forgotten."""
        said = self._asked.read_text().splitlines() if self._asked.exists() else []
        self._asked.unlink(missing_ok=True)
        return said

    @property
    def search(self) -> str:
        """The words of the last search."""
        return (self._folder / "search").read_text()


@pytest.fixture(params=["gh", "glab"])
def forge(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Forge:
    return Forge(request.param, tmp_path / "bin", monkeypatch)


def at_forge(fleet: Fleet, remote: Path, host: str, more: str = "") -> None:
    """Let the fleet file name the service by an address of a forge."""
    address = f"https://{host}/acme/a-svc.git"
    git(fleet.folder, "config", "--global", f"url.{remote}.insteadOf", address)
    (fleet.folder / "fleet.toml").write_text(f'[[services]]\nurl = "{address}"\n{more}')


def test_a_pull_request_is_opened_once(
    dockyard: Dockyard, fleet: Fleet, remote: Path, forge: Forge
) -> None:
    at_forge(fleet, remote, HOSTS[forge.tool])
    fleet.release()

    first = rows(dockyard, "update", fleet.folder, "--pr", code=0)["a-svc"]
    said = forge.asked()
    forge.open(OPEN[forge.tool])
    second = rows(dockyard, "update", fleet.folder, "--pr", code=0)["a-svc"]

    words = {
        "gh": ["pr", "create", "--head", "dockyard/v1.1.0", "--base", "trunk"],
        "glab": [
            "mr",
            "create",
            "--yes",
            "--source-branch",
            "dockyard/v1.1.0",
            "--target-branch",
            "trunk",
        ],
    }[forge.tool]
    assert said[: len(words)] == words
    assert "Update a-svc from template v1.0.0 to v1.1.0" in said
    assert first["url"] == second["url"] == PAGE
    assert forge.asked() == []
    assert "dockyard/v1.1.0" in forge.search
    # Both programs can be asked for open ones alone; GitLab's does so of itself.
    assert forge.tool == "glab" or "--state open" in forge.search


def test_a_pull_request_goes_into_the_branch_that_counts(
    dockyard: Dockyard, fleet: Fleet, remote: Path, forge: Forge
) -> None:
    git(remote, "branch", "develop", "trunk")
    at_forge(fleet, remote, HOSTS[forge.tool], 'branch = "develop"\n')
    fleet.release()

    rows(dockyard, "update", fleet.folder, "--pr", code=0)

    said = forge.asked()
    assert said[said.index("--base" if forge.tool == "gh" else "--target-branch") + 1] == "develop"


def test_an_open_pull_request_says_what_is_new_when_its_branch_moves(
    dockyard: Dockyard, fleet: Fleet, remote: Path, tmp_path: Path, forge: Forge
) -> None:
    at_forge(fleet, remote, HOSTS[forge.tool])
    fleet.release()
    rows(dockyard, "update", fleet.folder, "--pr", code=0)
    forge.asked()
    forge.open(OPEN[forge.tool])
    Made(tmp_path / "work").write({"Makefile": LINES.replace("line 19\n", "line 19, ours\n")})
    git(tmp_path / "work", "push", "--quiet", str(remote), "trunk")

    found = rows(dockyard, "update", fleet.folder, "--pr", code=0)["a-svc"]

    said = forge.asked()
    assert said[:3] == (["pr", "edit", PAGE] if forge.tool == "gh" else ["mr", "update", "7"])
    assert "- merged with the service's own changes: `Makefile`" in said
    assert found["url"] == PAGE


def test_a_forge_that_refuses_is_reported_and_asked_again(
    dockyard: Dockyard, fleet: Fleet, remote: Path, forge: Forge
) -> None:
    at_forge(fleet, remote, HOSTS[forge.tool])
    fleet.release()
    forge.refusal.write_text("To get started, please log in.\n")

    refused = rows(dockyard, "update", fleet.folder, "--pr", "--limit", "1", code=1)["a-svc"]

    assert refused["state"] == "error"
    assert f"{forge.tool} cannot look up its pull request: To get started" in refused["message"]
    assert HOSTS[forge.tool] in refused["url"]
    assert pushed(remote) == ["dockyard/v1.1.0"]
    forge.refusal.unlink()
    mended = rows(dockyard, "update", fleet.folder, "--pr", "--limit", "1", code=0)
    assert (states(mended), mended["a-svc"]["url"]) == ({"a-svc": "updated"}, PAGE)
    forge.open(OPEN[forge.tool])
    assert states(rows(dockyard, "update", fleet.folder, "--pr", "--limit", "1", code=0)) == {}


def test_a_forge_that_hangs_is_given_up(
    dockyard: Dockyard, fleet: Fleet, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "gh", "exec sleep 600\n", monkeypatch)
    monkeypatch.setenv("DOCKYARD_NETWORK_TIMEOUT", "2")
    at_forge(fleet, remote, "github.com")
    fleet.release()

    found = rows(dockyard, "update", fleet.folder, "--pr", code=1)["a-svc"]

    assert "gh cannot look up its pull request: it did not end within 2 s" in found["message"]


@pytest.mark.parametrize("where", ["forge", "services.forge"])
def test_the_fleet_file_names_a_forge_that_its_host_does_not(
    dockyard: Dockyard,
    fleet: Fleet,
    remote: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    forge = Forge("glab", tmp_path / "bin", monkeypatch)
    at_forge(
        fleet, remote, "git.example.com", 'forge = "gitlab"\n' if where == "services.forge" else ""
    )
    file = fleet.folder / "fleet.toml"
    if where == "forge":
        file.write_text('forge = "gitlab"\n' + file.read_text())
    fleet.release()

    assert rows(dockyard, "update", fleet.folder, "--pr", code=0)["a-svc"]["url"] == PAGE
    assert forge.asked()[:2] == ["mr", "create"]


def test_a_remote_that_is_no_forge_cannot_offer(
    dockyard: Dockyard, fleet: Fleet, remote: Path
) -> None:
    fleet.release()

    found = rows(dockyard, "update", fleet.folder, "--pr", code=1)["a-svc"]

    assert found["state"] == "error"
    assert "the address of origin names no forge" in found["message"]
    assert pushed(remote) == ["dockyard/v1.1.0"]


@pytest.mark.parametrize(
    ("address", "page"),
    [
        (
            "https://github.com/acme/a-svc.git",
            "https://github.com/acme/a-svc/compare/trunk...dockyard/v1.1.0?expand=1",
        ),
        (
            "git@github.com:acme/a-svc.git",
            "https://github.com/acme/a-svc/compare/trunk...dockyard/v1.1.0?expand=1",
        ),
        (
            "ssh://git@gitlab.example.com:2222/acme/deep/a-svc.git",
            (
                "https://gitlab.example.com/acme/deep/a-svc/-/merge_requests/new?"
                "merge_request%5Bsource_branch%5D=dockyard%2Fv1.1.0&merge_request%5Btarget_branch%5D=trunk"
            ),
        ),
    ],
)
def test_without_the_program_the_page_that_opens_one_is_named(
    dockyard: Dockyard,
    fleet: Fleet,
    remote: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    page: str,
) -> None:
    monkeypatch.setattr(forge_programs.shutil, "which", lambda _: None)
    git(tmp_path, "config", "--global", f"url.{remote}.insteadOf", address)
    (fleet.folder / "fleet.toml").write_text(f'[[services]]\nurl = "{address}"\n')
    fleet.release()

    assert rows(dockyard, "update", fleet.folder, "--pr", code=0)["a-svc"]["url"] == page
    assert pushed(remote) == ["dockyard/v1.1.0"]


def test_a_push_that_is_refused_is_reported_and_done_by_the_next_run(
    dockyard: Dockyard, fleet: Fleet, remote: Path
) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    fleet.release()

    refused = rows(dockyard, "update", fleet.folder, "--push", code=1)["a-svc"]
    hook.unlink()

    assert refused["state"] == "error"
    assert "not today" in refused["message"]
    assert states(rows(dockyard, "update", fleet.folder, "--push", code=0)) == {"a-svc": "updated"}


def test_credentials_of_an_address_are_not_shown(dockyard: Dockyard, fleet: Fleet) -> None:
    (fleet.folder / "fleet.toml").write_text(
        '[[services]]\nurl = "https://ada:s3cret@localhost:1/a-svc.git"\n'
    )
    for arguments in (("status",), ("status", "--json"), ("diff",)):
        ran = dockyard("fleet", arguments[0], fleet.folder, *arguments[1:])
        assert ran.code == 1
        assert "s3cret" not in ran.out + ran.err
    assert (
        json.loads(dockyard("fleet", "status", fleet.folder, "--json").out)["services"][0]["state"]
        == "error"
    )

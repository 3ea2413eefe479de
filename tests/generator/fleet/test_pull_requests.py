"""Pull requests by a forge's API, from the fleet file to what the forge is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.generator.fleet.apis.stand_in import StandIn, stand_in
from tests.generator.fleet.conftest import Fleet, rows, states
from tests.generator.lab import Dockyard, git

PULLS = "/repos/acme/a-svc/pulls"
SAID = {"number": 7, "html_url": "https://git.example.com/7", "node_id": "PR_7"}


@pytest.fixture
def forge(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A forge of the organisation's own, whose fleet has one service in a first wave."""
    lines = []
    for name in ("a-svc", "b-svc"):
        work = fleet.add(name)
        bare = tmp_path / "remotes" / f"{name}.git"
        git(tmp_path, "clone", "--quiet", "--bare", str(work.root), str(bare))
        work.root.rename(tmp_path / name)
        address = f"https://git.example.com/acme/{name}.git"
        git(fleet.folder, "config", "--global", f"url.{bare}.insteadOf", address)
        lines.append(f'[[services]]\nurl = "{address}"\n')
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("ACME_TOKEN", "t0ken")
    monkeypatch.setenv("GITHUB_TOKEN", "for github.com alone")
    with stand_in() as server:
        (fleet.folder / "fleet.toml").write_text(
            f'[forges."git.example.com"]\nkind = "github"\napi = "{server.base}"\n'
            'token = "ACME_TOKEN"\n'
            '[pull_requests]\nlabels = ["platform"]\nreviewers = ["ada"]\nauto_merge = true\n'
            '[[waves]]\nname = "canaries"\nservices = ["a-svc"]\nuntil = "green"\n' + "".join(lines)
        )
        server.answers = {
            f"GET {PULLS}": [],
            f"POST {PULLS}": (201, SAID),
            "POST /repos/acme/a-svc/issues/7/labels": [],
            f"POST {PULLS}/7/requested_reviewers": {},
            "POST /graphql": {"data": {}},
        }
        yield server


def test_a_pull_request_has_its_labels_reviewers_and_the_diff(
    dockyard: Dockyard, fleet: Fleet, forge: StandIn
) -> None:
    fleet.release()

    found = rows(dockyard, "update", fleet.folder, "--pr", code=0)

    assert found["a-svc"]["url"] == SAID["html_url"]
    writes = dict(forge.writes())
    body = writes[f"POST {PULLS}"]["body"]
    assert (writes[f"POST {PULLS}"]["head"], writes[f"POST {PULLS}"]["base"]) == (
        "dockyard/v1.1.0",
        "trunk",
    )
    assert "```diff\ndiff --git a/.copier-answers.yml" in body
    assert "+line 2, newer" in body
    assert writes["POST /repos/acme/a-svc/issues/7/labels"] == {"labels": ["platform"]}
    assert writes[f"POST {PULLS}/7/requested_reviewers"]["reviewers"] == ["ada"]
    assert "POST /graphql" in writes
    assert {each.headers["Authorization"] for each in forge.asked} == {"Bearer t0ken"}


def test_a_wave_waits_until_the_one_before_is_green(
    dockyard: Dockyard, fleet: Fleet, forge: StandIn
) -> None:
    fleet.release()
    found = rows(dockyard, "update", fleet.folder, "--pr", code=0)
    assert states(found) == {"a-svc": "updated", "b-svc": "waiting"}

    tip = next(each.what for each in forge.asked if each.what.endswith("/check-runs"))
    forge.answers |= {
        tip: {"check_runs": [{"status": "completed", "conclusion": "success"}]},
        tip.replace("check-runs", "status"): {"statuses": [], "state": "pending"},
        f"GET {PULLS}": [SAID | {"auto_merge": {}}],
        "GET /repos/acme/b-svc/pulls": (403, {"message": "not for you"}),
    }

    found = rows(dockyard, "update", fleet.folder, "--pr", code=1)

    assert states(found) == {"a-svc": "updated", "b-svc": "error"}
    assert "cannot look up its pull request: 403 not for you" in found["b-svc"]["message"]

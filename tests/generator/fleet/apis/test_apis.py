"""Each forge is asked as its documentation says; one suite for all of them."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dockyard.fleet.apis.azure import AzureDevOps
from dockyard.fleet.apis.bitbucket import Bitbucket
from dockyard.fleet.apis.gitea import Gitea
from dockyard.fleet.apis.github import GitHub
from dockyard.fleet.apis.gitlab import GitLab
from dockyard.fleet.apis.http import RefusedError
from dockyard.fleet.apis.port import Api, Checks, NotOfferedError, PullRequest
from tests.generator.fleet.apis.stand_in import StandIn, stand_in

BRANCH = "dockyard/v1.1.0"
WANTED = PullRequest(BRANCH, "main", "Update", "What is new")
URL = "https://forge.example/7"


@dataclass(frozen=True, slots=True)
class Case:
    """How one forge is asked, and what it answers."""

    make: Callable[[str, str, str], Api]
    path: str
    home: str
    """Where its pull requests are."""
    credentials: tuple[str, str]
    said: dict[str, Any]
    """A pull request as the forge says it."""
    of_fork: dict[str, Any]
    """The changes that make it one of a fork."""
    listed: Callable[[list[Any]], Any]
    search: dict[str, str]
    created: dict[str, Any]
    edited: tuple[str, dict[str, Any]]
    url: str = URL


CASES = {
    "github": Case(
        GitHub,
        "acme/a-svc",
        "/repos/acme/a-svc/pulls",
        ("Authorization", "Bearer t0ken"),
        {"number": 7, "html_url": URL, "node_id": "PR_7", "auto_merge": None},
        {},
        list,
        {"state": "open", "head": f"acme:{BRANCH}"},
        {"title": "Update", "body": "What is new", "head": BRANCH, "base": "main"},
        ("PATCH /repos/acme/a-svc/pulls/7", {"title": "Update", "body": "What is new"}),
    ),
    "gitlab": Case(
        GitLab,
        "acme/deep/a-svc",
        "/projects/acme/deep/a-svc/merge_requests",
        ("Private-Token", "t0ken"),
        {"iid": 7, "web_url": URL, "source_project_id": 1, "target_project_id": 1},
        {"source_project_id": 2},
        list,
        {"state": "opened", "source_branch": BRANCH},
        {
            "source_branch": BRANCH,
            "target_branch": "main",
            "title": "Update",
            "description": "What is new",
            "remove_source_branch": True,
        },
        (
            "PUT /projects/acme/deep/a-svc/merge_requests/7",
            {"title": "Update", "description": "What is new"},
        ),
    ),
    "gitea": Case(
        Gitea,
        "acme/a-svc",
        "/repos/acme/a-svc/pulls",
        ("Authorization", "token t0ken"),
        {
            "number": 7,
            "html_url": URL,
            "head": {"ref": BRANCH, "repo_id": 1},
            "base": {"ref": "main", "repo_id": 1},
        },
        {"head": {"ref": BRANCH, "repo_id": 2}},
        list,
        {"state": "open", "limit": "50", "page": "1"},
        {"title": "Update", "body": "What is new", "head": BRANCH, "base": "main"},
        ("PATCH /repos/acme/a-svc/pulls/7", {"title": "Update", "body": "What is new"}),
    ),
    "bitbucket": Case(
        Bitbucket,
        "acme/a-svc",
        "/repositories/acme/a-svc/pullrequests",
        ("Authorization", "Bearer t0ken"),
        {
            "id": 7,
            "title": "Update",
            "links": {"html": {"href": URL}},
            "source": {"repository": {"full_name": "acme/a-svc"}},
            "reviewers": [{"uuid": "{1}"}],
        },
        {"source": {"repository": {"full_name": "eve/a-svc"}}},
        lambda found: {"values": found},
        {"q": f'source.branch.name="{BRANCH}" AND state="OPEN"'},
        {
            "title": "Update",
            "description": "What is new",
            "source": {"branch": {"name": BRANCH}},
            "destination": {"branch": {"name": "main"}},
            "close_source_branch": True,
        },
        (
            "PUT /repositories/acme/a-svc/pullrequests/7",
            {"title": "Update", "description": "What is new", "reviewers": [{"uuid": "{1}"}]},
        ),
    ),
    "azure": Case(
        AzureDevOps,
        "acme/shop/a-svc",
        "/acme/shop/_apis/git/repositories/a-svc/pullrequests",
        ("Authorization", f"Basic {b64encode(b':t0ken').decode()}"),
        {"pullRequestId": 7, "createdBy": {"id": "me"}},
        {"forkSource": {"name": "refs/heads/x"}},
        lambda found: {"value": found},
        {
            "searchCriteria.sourceRefName": f"refs/heads/{BRANCH}",
            "searchCriteria.status": "active",
            "api-version": "7.1",
        },
        {
            "sourceRefName": f"refs/heads/{BRANCH}",
            "targetRefName": "refs/heads/main",
            "title": "Update",
            "description": "What is new",
        },
        (
            "PATCH /acme/shop/_apis/git/repositories/a-svc/pullrequests/7",
            {"title": "Update", "description": "What is new"},
        ),
        url="{base}/acme/shop/_git/a-svc/pullrequest/7",
    ),
}
every_forge = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("no_proxy", "*")
    with stand_in() as running:
        yield running


def api(case: Case, server: StandIn) -> Api:
    return case.make(server.base, "t0ken", case.path)


@every_forge
def test_the_open_pull_request_of_a_branch_is_found(case: Case, server: StandIn) -> None:
    server.answers[f"GET {case.home}"] = case.listed([case.said])

    found = api(case, server).find(BRANCH)

    assert found is not None
    assert (found.number, found.url) == ("7", case.url.format(base=server.base))
    assert server.asked[0].query == case.search
    name, value = case.credentials
    assert server.asked[0].headers[name] == value


@every_forge
def test_none_or_one_of_a_fork_is_not_found(case: Case, server: StandIn) -> None:
    server.answers[f"GET {case.home}"] = case.listed([])
    assert api(case, server).find(BRANCH) is None
    if case.of_fork:
        server.answers[f"GET {case.home}"] = case.listed([case.said | case.of_fork])
        assert api(case, server).find(BRANCH) is None


@every_forge
def test_a_pull_request_is_opened_and_its_text_rewritten(case: Case, server: StandIn) -> None:
    change, text = case.edited
    server.answers = {f"POST {case.home}": (201, case.said), change: {}}

    opened = api(case, server).create(WANTED)
    api(case, server).edit(opened, WANTED)

    assert server.writes() == [(f"POST {case.home}", case.created), (change, text)]


@every_forge
def test_a_refusal_is_said_in_the_forges_words_and_without_the_token(
    case: Case, server: StandIn
) -> None:
    server.answers[f"POST {case.home}"] = (422, {"message": "no commits between\nthem"})

    with pytest.raises(RefusedError, match="422 no commits between them") as refused:
        api(case, server).create(WANTED)

    assert "t0ken" not in str(refused.value)


@every_forge
def test_a_redirect_carries_no_token_to_another_server(case: Case, server: StandIn) -> None:
    with stand_in() as other:
        server.answers[f"GET {case.home}"] = (302, f"{other.base}/")

        with pytest.raises(RefusedError, match="302"):
            api(case, server).find(BRANCH)

        assert other.asked == []


@every_forge
def test_a_token_goes_nowhere_without_https(case: Case, server: StandIn) -> None:
    with pytest.raises(RefusedError, match="is not https, so no token goes there"):
        case.make("http://forge.example", "t0ken", case.path).find(BRANCH)


AZURE = "/acme/shop/_apis/git/repositories/a-svc/pullrequests/7"


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        (
            "github",
            {},
            [
                ("POST /repos/acme/a-svc/issues/7/labels", {"labels": ["platform"]}),
                (
                    "POST /repos/acme/a-svc/pulls/7/requested_reviewers",
                    {"reviewers": ["ada"], "team_reviewers": ["core"]},
                ),
                ("POST /graphql", {"id": "PR_7"}),
            ],
        ),
        (
            "gitlab",
            {"GET /users": [{"id": 5}]},
            [
                ("PUT /projects/acme/deep/a-svc/merge_requests/7", {"add_labels": "platform"}),
                ("PUT /projects/acme/deep/a-svc/merge_requests/7", {"reviewer_ids": [5, 5]}),
                (
                    "PUT /projects/acme/deep/a-svc/merge_requests/7/merge",
                    {"merge_when_pipeline_succeeds": True},
                ),
            ],
        ),
        (
            "gitea",
            {"GET /repos/acme/a-svc/labels": [{"id": 3, "name": "platform"}]},
            [
                ("POST /repos/acme/a-svc/issues/7/labels", {"labels": [3]}),
                (
                    "POST /repos/acme/a-svc/pulls/7/requested_reviewers",
                    {"reviewers": ["ada"], "team_reviewers": ["core"]},
                ),
                (
                    "POST /repos/acme/a-svc/pulls/7/merge",
                    {"Do": "merge", "merge_when_checks_succeed": True},
                ),
            ],
        ),
        (
            "bitbucket",
            {},
            [
                (
                    "PUT /repositories/acme/a-svc/pullrequests/7",
                    {
                        "title": "Update",
                        "reviewers": [{"account_id": "ada"}, {"account_id": "acme/core"}],
                    },
                ),
            ],
        ),
        (
            "azure",
            {},
            [
                (f"POST {AZURE}/labels", {"name": "platform"}),
                (f"PUT {AZURE}/reviewers/ada", {"vote": 0}),
                (f"PUT {AZURE}/reviewers/acme/core", {"vote": 0}),
                (
                    f"PATCH {AZURE}",
                    {
                        "autoCompleteSetBy": {"id": "me"},
                        "completionOptions": {"deleteSourceBranch": True},
                    },
                ),
            ],
        ),
    ],
)
def test_labels_reviewers_and_auto_merge(
    name: str, answers: dict[str, Any], expected: list[tuple[str, Any]], server: StandIn
) -> None:
    case = CASES[name]
    server.answers = {
        f"GET {case.home}": case.listed([case.said]),
        **answers,
        **{what: {} for what, _ in expected},
    }
    forge = api(case, server)
    found = forge.find(BRANCH)
    assert found is not None

    missing = []
    for act in (
        lambda: forge.label(found, ("platform",)),
        lambda: forge.ask(found, ("ada", "acme/core")),
        lambda: forge.merge_itself(found),
    ):
        try:
            act()
        except NotOfferedError as error:
            missing.append(str(error))

    said = [(what, body.get("variables", body)) for what, body in server.writes()]
    assert said == expected
    assert len(missing) == (2 if name == "bitbucket" else 0)


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        ("github", ([], [], "pending"), Checks.ABSENT),
        ("github", ([("completed", "success")], [], "pending"), Checks.PASSED),
        ("github", ([("in_progress", None)], [1], "success"), Checks.RUNNING),
        ("github", ([("completed", "failure")], [1], "success"), Checks.FAILED),
        ("github", ([("completed", "skipped")], [1], "failure"), Checks.FAILED),
        ("gitlab", [], Checks.ABSENT),
        ("gitlab", [{"status": "running"}], Checks.RUNNING),
        ("gitlab", [{"status": "success"}, {"status": "failed"}], Checks.PASSED),
        ("gitea", {"state": "", "total_count": 0}, Checks.ABSENT),
        ("gitea", {"state": "pending", "total_count": 1}, Checks.RUNNING),
        ("gitea", {"state": "success", "total_count": 2}, Checks.PASSED),
        ("bitbucket", {"values": []}, Checks.ABSENT),
        (
            "bitbucket",
            {"values": [{"state": "SUCCESSFUL"}, {"state": "INPROGRESS"}]},
            Checks.RUNNING,
        ),
        ("bitbucket", {"values": [{"state": "SUCCESSFUL"}]}, Checks.PASSED),
        ("azure", {"value": [{"state": "succeeded"}, {"state": "failed"}]}, Checks.FAILED),
        ("azure", {"value": [{"state": "succeeded"}]}, Checks.PASSED),
    ],
)
def test_the_checks_of_a_commit_are_one_verdict(
    name: str, answers: Any, expected: Checks, server: StandIn
) -> None:
    where = {
        "gitlab": "GET /projects/acme/deep/a-svc/pipelines",
        "gitea": "GET /repos/acme/a-svc/commits/c0ffee/status",
        "bitbucket": "GET /repositories/acme/a-svc/commit/c0ffee/statuses",
        "azure": "GET /acme/shop/_apis/git/repositories/a-svc/commits/c0ffee/statuses",
    }
    if name == "github":
        runs, statuses, state = answers
        server.answers = {
            "GET /repos/acme/a-svc/commits/c0ffee/check-runs": {
                "check_runs": [{"status": one, "conclusion": other} for one, other in runs]
            },
            "GET /repos/acme/a-svc/commits/c0ffee/status": {"statuses": statuses, "state": state},
        }
    else:
        server.answers = {where[name]: answers}

    assert api(CASES[name], server).checks("c0ffee") is expected

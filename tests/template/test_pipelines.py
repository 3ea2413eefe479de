"""A rendered service's workflows pass three linters for all answers, with the least permissions."""

import json
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, product
from pathlib import Path
from threading import Thread
from typing import Any

import pathspec
import pytest
import yaml

from chassis.settings import load
from tests.template import lab

BUSES = list(lab.QUESTIONS["bus"]["choices"].values())
INBOXES = list(lab.QUESTIONS["inbox"]["choices"].values())
REGISTRIES = ["ghcr.io/acme", "registry.example.com:5000"]
ANSWERS = [
    {"bus": bus, "inbox": inbox, "image_registry": registry}
    for (bus, inbox), registry in zip(product(BUSES, INBOXES), cycle(REGISTRIES))
]
WORKFLOWS = (
    ".github/workflows/ci.yml",
    ".github/workflows/release.yml",
    ".github/workflows/template.yml",
)
SCHEMES = {"amqp": "rabbitmq", "nats": "nats", "redis": "redis", "postgresql": "postgres"}


def judges(*folders: Path) -> Sequence[Sequence[str]]:
    """The commands that the workflows of services must pass."""
    tool = Path(sys.executable).with_name
    workflows = [str(folder / path) for folder in folders for path in WORKFLOWS]
    return (
        [str(tool("actionlint")), *workflows],
        [str(tool("check-jsonschema")), "--builtin-schema", "vendor.github-workflows", *workflows],
        [str(tool("zizmor")), "--offline", "--no-progress", "--pedantic", *workflows],
    )


def workflow(folder: Path, path: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((folder / path).read_text("utf-8"), yaml.BaseLoader)  # noqa: S506 - keeps `on` a word
    return loaded


def jobs(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in workflow(folder, path)["jobs"].items():
            yield f"{path}:{name}", job


def steps(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs(folder):
        for step in job.get("steps", ()):
            yield name, step


def test_the_workflows_are_clean_whatever_the_answers(render: lab.Render, tmp_path: Path) -> None:
    folders = [render(**answers) for answers in ANSWERS]
    assert len(set(folders)) == len(ANSWERS)
    for command in judges(*folders):
        lab.run(command, tmp_path)


@pytest.mark.parametrize(
    ("judge", "old", "new", "complaint"),
    [
        (0, "github.base_ref", "github.base_reff", "base_reff"),
        (1, "timeout-minutes: 15", "timeout-minutes: soon", "timeout-minutes"),
        (2, "persist-credentials: false", "fetch-tags: false", "artipacked"),
        (2, "permissions: {}", "permissions: write-all", "excessive-permissions"),
    ],
)
def test_each_judge_finds_what_it_is_there_for(
    service: Path, judge: int, old: str, new: str, complaint: str
) -> None:
    file = service / ".github/workflows/ci.yml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    done = lab.attempt(judges(service)[judge], service)
    assert done.returncode != 0
    assert complaint in done.stdout


@pytest.mark.parametrize(("bus", "inbox"), list(product(BUSES, INBOXES)))
def test_the_smoke_test_has_the_servers_of_the_answers_and_no_others(
    render: lab.Render, bus: str, inbox: str
) -> None:
    job = workflow(render(bus=bus, inbox=inbox), WORKFLOWS[0])["jobs"]["smoke"]
    settings = load(job["env"])
    assert {SCHEMES[url.split(":")[0]] for url in (settings.bus, settings.inbox)} == job[
        "services"
    ].keys()
    for server in job["services"].values():
        assert re.search(r":\d+(\.\d+)+(-alpine)?(@sha256:[0-9a-f]{64})?$", server["image"]), (
            "a version, not a moving tag"
        )
        assert "--health-cmd" in server["options"]
    ports = {port.split(":")[1] for server in job["services"].values() for port in server["ports"]}
    assert {url.rpartition(":")[2].split("/")[0] for url in job["env"].values()} == ports


@pytest.mark.parametrize(("bus", "inbox"), list(product(BUSES, INBOXES)))
def test_the_smoke_test_runs_on_the_versions_that_a_developer_runs(
    render: lab.Render, bus: str, inbox: str
) -> None:
    folder = render(bus=bus, inbox=inbox)
    here = workflow(folder, "deploy/compose.yaml")["services"]
    for name, server in workflow(folder, WORKFLOWS[0])["jobs"]["smoke"]["services"].items():
        (in_ci, on_a_machine) = (version(image) for image in (server["image"], here[name]["image"]))
        assert in_ci == on_a_machine, name


def version(image: str) -> tuple[str, str]:
    """The repository and the version of an image: rabbitmq:4.3.5-management-alpine is 4.3.5."""
    repository, _, tag = image.partition("@")[0].rpartition(":")
    return repository, tag.partition("-")[0]


@pytest.mark.parametrize("registry", REGISTRIES)
def test_a_job_may_do_what_it_needs_and_no_more(render: lab.Render, registry: str) -> None:
    folder = render(image_registry=registry)
    signs = {"contents": "read", "id-token": "write"}
    if registry.startswith("ghcr.io/"):
        signs["packages"] = "write"
    allowed = {
        f"{WORKFLOWS[1]}:image": signs | {"attestations": "write"},
        f"{WORKFLOWS[1]}:chart": signs,
    }
    for path in WORKFLOWS:
        assert workflow(folder, path)["permissions"] == {}
        assert "concurrency" in workflow(folder, path)
    for name, job in jobs(folder):
        assert job["permissions"] == allowed.get(name, {"contents": "read"}), name
        assert "uses" in job or int(job["timeout-minutes"]) <= 30, name


def test_secrets_are_read_by_the_release_only_and_the_registry_that_needs_none_gets_none(
    render: lab.Render,
) -> None:
    elsewhere, github = (
        render(image_registry="registry.example.com"),
        render(image_registry="ghcr.io/acme"),
    )
    for folder, expected in (
        (elsewhere, {"REGISTRY_USERNAME", "REGISTRY_PASSWORD"}),
        (github, {"GITHUB_TOKEN"}),
    ):
        for name, job in jobs(folder):
            named = set(re.findall(r"secrets\.(\w+)", json.dumps(job)))
            if named - {"TEMPLATE_TOKEN"}:
                assert job["environment"] == "release", name
                assert named == expected
        assert "secrets." not in (folder / WORKFLOWS[0]).read_text("utf-8")


def test_no_credential_stays_behind_a_checkout_and_every_action_is_a_commit(rendered: Path) -> None:
    used = [(name, step) for name, step in steps(rendered) if "uses" in step]
    assert len(used) > 10
    for name, step in used:
        assert re.search(r"@[0-9a-f]{40}$", step["uses"]), name
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false", name


def test_one_action_has_one_version_in_all_workflows(rendered: Path) -> None:
    versions = {step["uses"] for _, step in steps(rendered) if "uses" in step}
    assert len(versions) == len({use.split("@")[0] for use in versions})


def test_an_image_gets_its_tag_after_it_is_scanned_signed_and_found_to_be_new(
    rendered: Path,
) -> None:
    job = workflow(rendered, WORKFLOWS[1])["jobs"]["image"]
    assert set(job["needs"]) == {"ci", "tag"}
    order = [step.get("uses", step.get("run", "")) for step in job["steps"]]

    def position(what: str) -> int:
        (found,) = [number for number, step in enumerate(order) if what in step]
        return found

    build = job["steps"][position("docker/build-push-action")]["with"]
    assert "push-by-digest=true" in build["outputs"]
    assert "tags" not in build
    wanted = [
        "imagetools inspect",
        "build-push-action",
        "sbom-action",
        "scan-action",
        "cosign sign",
        "imagetools create",
    ]
    assert [position(what) for what in wanted] == sorted(position(what) for what in wanted)
    assert position("imagetools create") == len(order) - 1


def test_an_image_is_scanned_before_it_is_released_and_every_week(rendered: Path) -> None:
    assert "schedule" in workflow(rendered, WORKFLOWS[0])["on"]
    job = workflow(rendered, WORKFLOWS[0])["jobs"]["image"]
    (built,) = [step["run"] for step in job["steps"] if "make image" in step.get("run", "")]
    scan, released = (
        next(
            step
            for step in workflow(rendered, path)["jobs"]["image"]["steps"]
            if "scan-action" in step.get("uses", "")
        )
        for path in WORKFLOWS[:2]
    )
    (name,) = re.findall(
        r"^IMAGE := (\S+)$", (rendered / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert built == "make image VERSION=ci"
    assert scan["with"].pop("image") == f"{name}:ci"
    assert released["with"].pop("sbom")
    assert scan["with"] == released["with"]
    assert "pull_request" in scan["continue-on-error"]


@pytest.mark.parametrize(
    ("code", "said", "complaint"),
    [
        (0, "Name: registry.example.com/acme/billing-svc:1.4.0", "is published already"),
        (1, "ERROR: registry.example.com/acme/billing-svc:1.4.0: not found", None),
        (1, "ERROR: failed to authorize: failed to fetch oauth token: denied: denied", None),
        (1, "ERROR: unexpected status: 404 Not Found: manifest unknown", None),
        (1, '{"errors":[{"code":"NAME_UNKNOWN"}]}', None),
        (1, "ERROR: failed to authorize: unexpected status: 401 Unauthorized", "401 Unauthorized"),
        (1, "ERROR: dial tcp: lookup registry.example.com: no such host", "no such host"),
        (127, "docker: command not found", "command not found"),
    ],
)
def test_a_version_is_new_when_the_registry_says_so_and_not_when_it_says_nothing(
    rendered: Path, tmp_path: Path, code: int, said: str, complaint: str | None
) -> None:
    done = stepped(
        rendered, "image", "Versions", {"docker": f"echo '{said}' >&2; exit {code}"}, tmp_path
    )
    assert (done.returncode == 0) == (complaint is None), done.stdout
    assert complaint is None or complaint in done.stdout
    assert ("version=1.4.0" in (tmp_path / "output").read_text("utf-8")) == (complaint is None)


def test_a_chart_that_is_not_pushed_is_not_signed(rendered: Path, tmp_path: Path) -> None:
    programs = {
        "yq": "",
        "helm": "case $1 in push) echo denied; exit 1 ;; esac",
        "cosign": 'touch "$RUNNER_TEMP/signed"',
    }
    step = "Package with the image's digest, push, sign"
    assert stepped(rendered, "chart", step, programs, tmp_path).returncode != 0
    assert not (tmp_path / "signed").exists()
    assert (
        stepped(
            rendered, "chart", step, {**programs, "helm": "echo Digest: sha256:1"}, tmp_path
        ).returncode
        == 0
    )
    assert (tmp_path / "signed").exists()


def stepped(
    folder: Path, job: str, name: str, programs: Mapping[str, str], temporary: Path
) -> subprocess.CompletedProcess[str]:
    """Run the step `name` of the release as GitHub does, with scripts in place of `programs`."""
    release = workflow(folder, WORKFLOWS[1])
    (step,) = [step for step in release["jobs"][job]["steps"] if step.get("name") == name]
    for program, script in programs.items():
        (temporary / program).write_text(f"#!/bin/sh\n{script}\n")
        (temporary / program).chmod(0o755)
    (temporary / "output").touch()
    shells = {
        "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"],
        None: ["bash", "-e", "-c"],
    }
    env = {
        "PATH": f"{temporary}:/usr/bin:/bin",
        "RUNNER_TEMP": str(temporary),
        "GITHUB_OUTPUT": str(temporary / "output"),
        "GITHUB_REF_NAME": "v1.4.0",
        **{
            name: value
            for name, value in release["jobs"][job].get("env", {}).items()
            if "${{" not in value
        },
        **{name: "sha256:1" if name == "DIGEST" else "1.4.0" for name in step.get("env", {})},
    }
    shell = shells[release.get("defaults", {"run": {"shell": None}})["run"]["shell"]]
    return lab.attempt([*shell, step["run"]], folder, env)


def test_what_the_workflows_run_is_there(rendered: Path) -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (rendered / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    called = {
        target
        for _, step in steps(rendered)
        for target in re.findall(r"^make ([a-z-]+)", step.get("run", ""))
    }
    assert {
        "check",
        "test",
        "breaking",
        "smoke",
        "image",
        "drift",
        "outdated",
        "release-check",
    } <= called
    assert called <= targets
    built = next(step for _, step in steps(rendered) if "build-push-action" in step.get("uses", ""))
    assert (rendered / built["with"]["file"]).is_file()


# What compares a service with its template


@pytest.fixture
def programs(make_environment: Mapping[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment whose uv only says what it was asked to do, and that has no dockyard."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "uv").write_text('#!/bin/sh\necho "uv $*"\n')
    (folder / "uv").chmod(0o755)
    return {**make_environment, "PATH": f"{folder}:/usr/bin:/bin"}


@dataclass(frozen=True)
class Locked:
    """An HTTP server that lets nobody in, and the credentials that it was shown."""

    url: str
    credentials: list[str]


@pytest.fixture
def locked() -> Iterator[Locked]:
    shown: list[str] = []

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "Authorization" in self.headers:
                shown.append(
                    b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
                )
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="template"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        Thread(target=server.serve_forever).start()
        yield Locked(f"http://127.0.0.1:{server.server_port}", shown)
        server.shutdown()


def without_dockyard(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` as it is where uv has to bring the command."""
    folder = environment["PATH"].split(":")[0]
    return {**environment, "PATH": f"{folder}:/usr/bin:/bin"}


def record(service: Path, source: str, commit: str) -> None:
    answers = service / ".copier-answers.yml"
    text = re.sub(r"(?m)^_src_path: .*$", f"_src_path: {source}", answers.read_text("utf-8"))
    answers.write_text(re.sub(r"(?m)^_commit: .*$", f"_commit: {commit}", text), "utf-8")


@pytest.mark.parametrize(
    ("source", "commit", "asked"),
    [
        ("gh:acme/dockyard", "v1.2.0", "git+https://github.com/acme/dockyard@v1.2.0"),
        (
            "git+https://git.example.com/acme/dockyard",
            "v1.2.0",
            "git+https://git.example.com/acme/dockyard@v1.2.0",
        ),
        ("gl:acme/dockyard.git", "v1.2.0", "git+https://gitlab.com/acme/dockyard.git@v1.2.0"),
        (
            "https://git.example.com/acme/dockyard",
            "abc1234",
            "git+https://git.example.com/acme/dockyard@abc1234",
        ),
        (
            "git@git.example.com:acme/dockyard",
            "v1.2.0-3-gabc1234",
            "git+ssh://git@git.example.com/acme/dockyard@abc1234",
        ),
    ],
)
def test_the_template_of_a_repository_brings_the_command_that_compares(
    service: Path, programs: Mapping[str, str], source: str, commit: str, asked: str
) -> None:
    record(service, source, commit)
    assert f"uv tool run --from {asked} dockyard diff\n" in lab.run(
        ["make", "drift"], service, programs
    )
    assert f"uv tool run --from {asked} dockyard check\n" in lab.run(
        ["make", "outdated"], service, programs
    )


def test_the_template_in_a_folder_is_not_compared_where_there_is_no_dockyard_and_that_is_said(
    service: Path, programs: Mapping[str, str]
) -> None:
    record(service, "/srv/dockyard", "v1.2.0")
    assert "not compared: the template is the folder /srv/dockyard" in lab.run(
        ["make", "drift"], service, programs
    )


@pytest.mark.parametrize("target", ["drift", "outdated"])
def test_a_difference_that_dockyard_finds_fails_the_target(
    service: Path, programs: Mapping[str, str], target: str
) -> None:
    dockyard = Path(programs["PATH"].split(":")[0]) / "dockyard"
    dockyard.write_text("#!/bin/sh\nexit 1\n")
    dockyard.chmod(0o755)
    assert lab.attempt(["make", target], service, programs).returncode != 0


def test_the_token_for_the_template_is_there_only_where_the_template_is_compared(
    rendered: Path,
) -> None:
    job = workflow(rendered, WORKFLOWS[2])["jobs"]["template"]
    assert "secrets." not in json.dumps(
        {name: value for name, value in job.items() if name != "steps"}
    )
    knowing = [step["run"] for step in job["steps"] if "TEMPLATE_TOKEN" in json.dumps(step)]
    assert knowing == ["make drift", "make outdated"]
    assert "git config" not in json.dumps(job), (
        "what is in the configuration is there for every later step"
    )


@pytest.mark.parametrize("target", ["drift", "outdated"])
@pytest.mark.parametrize("token", ["s3cret", ""])
def test_a_template_that_is_not_public_is_asked_for_with_the_token(
    service: Path, make_environment: Mapping[str, str], locked: Locked, target: str, token: str
) -> None:
    record(service, f"{locked.url}/acme/dockyard", "v1.2.0")
    job = workflow(service, WORKFLOWS[2])["jobs"]["template"]
    (step,) = [step for step in job["steps"] if step.get("run") == f"make {target}"]
    given = {
        name: value.replace("${{ github.server_url }}", locked.url)
        for name, value in job["env"].items()
    }
    given |= dict.fromkeys(step["env"], token) | {"GIT_TERMINAL_PROMPT": "0"}
    done = lab.attempt(["make", target], service, {**without_dockyard(make_environment), **given})
    assert done.returncode != 0, "the server lets nobody in"
    assert set(locked.credentials) == ({f"x-access-token:{token}"} if token else set())


# What refuses a release


@pytest.mark.parametrize("tag", ["v0.1.0", "v0.1", "0.1.0", "v0.2.0", ""])
def test_only_the_tag_of_this_version_is_released(
    service: Path, make_environment: Mapping[str, str], tag: str
) -> None:
    lab.run(["uv", "lock", "--quiet"], service, make_environment)
    done = lab.attempt(
        ["make", "release-check", "AGAINST=main"], service, {**make_environment, "TAG": tag}
    )
    assert (done.returncode == 0) == (tag == "v0.1.0"), done.stdout
    if tag != "v0.1.0":
        assert f"the tag is '{tag}' and pyproject.toml says v0.1.0" in done.stdout


def test_only_what_is_on_main_is_released(
    service: Path, make_environment: Mapping[str, str]
) -> None:
    lab.run(["uv", "lock", "--quiet"], service, make_environment)
    lab.git(service, "switch", "--quiet", "--create", "shortcut")
    lab.commit_all(service, "not reviewed")
    done = lab.attempt(
        ["make", "release-check", "AGAINST=main"], service, {**make_environment, "TAG": "v0.1.0"}
    )
    assert done.returncode != 0
    assert "v0.1.0 is not on main: merge first" in done.stdout


# Renovate


def test_renovate_leaves_to_the_template_what_the_template_updates(rendered: Path) -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    lab.run([str(tool), "--builtin-schema", "vendor.renovate", "renovate.json"], rendered)
    config = json.loads((rendered / "renovate.json").read_text("utf-8"))
    ignored = pathspec.GitIgnoreSpec.from_lines(f"/{path}" for path in config["ignorePaths"])
    files = lab.tree(rendered)
    names_versions = re.compile(
        r"/workflows/|Dockerfile|compose\.ya?ml|pyproject\.toml$|Chart\.yaml"
    )
    managed = {path for path in lab.managed(files) if names_versions.search(path)}
    assert {*WORKFLOWS, "deploy/Dockerfile", "chassis/pyproject.toml"} <= managed
    assert {path for path in managed if not ignored.match_file(path)} == set()
    assert {path for path in lab.yours(files) if ignored.match_file(path)} == set()

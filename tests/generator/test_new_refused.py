"""`dockyard new` when it cannot: one sentence, exit code 2, nothing left behind."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.generator.lab import COPIER_YML, Dockyard, Ran, Repository, git, listing


@pytest.fixture
def refused(dockyard: Dockyard, into: Path, tmp_path: Path) -> Dockyard:
    """Run `dockyard new … --into <into>`, which must be refused without a trace."""

    def run(name: str, *arguments: str | Path) -> Ran:
        before = listing(into), listing(tmp_path / "scratch")
        ran = dockyard("new", name, "--into", into, *arguments)
        assert (listing(into), listing(tmp_path / "scratch")) == before
        assert ran.code == 2
        assert "Traceback" not in ran.err
        assert ran.err.splitlines()[-1].startswith("dockyard: ")
        return ran

    return run


@pytest.mark.parametrize(
    "name", ["Billing", "billing_svc", "1billing", "billing-", "a--b", "../billing", ""]
)
def test_a_name_that_is_not_kebab_case(
    refused: Dockyard, repository: Repository, name: str
) -> None:
    ran = refused(name, "--template", repository.path, "--defaults")

    assert f"{name!r} is not a service name: use kebab-case" in ran.err


def test_a_name_that_exists(refused: Dockyard, repository: Repository, into: Path) -> None:
    (into / "billing-svc").mkdir()
    (into / "billing-svc/precious").write_text("work")

    ran = refused("billing-svc", "--template", repository.path, "--defaults")

    assert f"{into / 'billing-svc'} exists already" in ran.err
    assert (into / "billing-svc/precious").read_text() == "work"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("owner", "--data 'owner' is not of the form question=answer"),
        ("=payments", "--data '=payments' is not of the form"),
        ("ownr=payments", "does not ask 'ownr'; it asks bus, owner, service_name"),
        ("package=x", "does not ask 'package'"),
        ("service_name=x", "NAME says it already"),
        (
            "owner=PAYMENTS",
            (
                "the answer to owner is refused: must be lower case; "
                "give another answer with --data owner=…"
            ),
        ),
        ("bus=kafka", "the answer to bus is refused: 'kafka' is not in ['rabbitmq', 'nats']"),
    ],
)
def test_bad_data(refused: Dockyard, repository: Repository, data: str, sentence: str) -> None:
    assert (
        sentence
        in refused("billing-svc", "--template", repository.path, "--defaults", "--data", data).err
    )


def test_a_name_that_the_template_refuses(refused: Dockyard, repository: Repository) -> None:
    validator = "\"{% if service_name == 'json' %}would shadow a module{% endif %}\""
    repository.commit(
        {
            "copier.yml": COPIER_YML.replace(
                "default: example-svc}", f"default: example-svc, validator: {validator}}}"
            )
        }
    )

    ran = refused("json", "--template", repository.path, "--defaults")

    assert (
        "the answer to service_name is refused: would shadow a module; choose another NAME."
        in ran.err
    )


def test_a_question_without_answer_or_default(refused: Dockyard, repository: Repository) -> None:
    repository.commit({"copier.yml": COPIER_YML + "region: {type: str}\n"})

    ran = refused("billing-svc", "--template", repository.path, "--defaults")

    assert (
        "the answer to region is refused: is required; give another answer with --data region=…"
        in ran.err
    )


def test_nobody_to_ask(refused: Dockyard, repository: Repository) -> None:
    ran = refused("billing-svc", "--template", repository.path, "--data", "bus=nats")

    assert "cannot ask for owner: standard input is not a terminal; add --defaults" in ran.err


def test_a_template_that_is_nowhere(refused: Dockyard, tmp_path: Path) -> None:
    assert (
        "there is no such folder"
        in refused("billing-svc", "--template", tmp_path / "absent", "--defaults").err
    )


def test_a_template_url_that_does_not_answer(refused: Dockyard, tmp_path: Path, home: Path) -> None:
    url = (tmp_path / "absent.git").as_uri()

    ran = refused("billing-svc", "--template", url, "--defaults")

    assert f"cannot reach the template {url}" in ran.err
    assert [
        path for path in (home / ".cache/dockyard/templates").iterdir() if path.suffix == ".git"
    ] == []


@pytest.mark.parametrize(
    "url",
    [
        "https://ada:s3cret@git.example.com/t.git",
        "git+https://s3cret@git.example.com/t",
        "ssh://a:s3cret@git.example.com/t",
    ],
)
def test_a_template_url_with_credentials_is_not_even_shown(refused: Dockyard, url: str) -> None:
    ran = refused("billing-svc", "--template", url, "--defaults")

    assert "git.example.com carries credentials" in ran.err
    assert "s3cret" not in ran.err + ran.out


def test_a_folder_that_is_no_repository(refused: Dockyard, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()

    assert (
        "not a git repository"
        in refused("billing-svc", "--template", tmp_path / "plain", "--defaults").err
    )


def test_a_folder_inside_a_repository(refused: Dockyard, repository: Repository) -> None:
    assert (
        "not its root"
        in refused("billing-svc", "--template", repository.path / "template", "--defaults").err
    )


def test_a_repository_without_a_commit(refused: Dockyard, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "fresh")

    assert (
        "it has no commit yet"
        in refused("billing-svc", "--template", tmp_path / "fresh", "--defaults").err
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("_subdirectory: template\n", "does not ask service_name"),
        ("service_name: [unclosed\n", "copier.yml cannot be read"),
        ("- a list\n", "holds something else than questions"),
    ],
)
def test_a_repository_that_is_no_template(
    refused: Dockyard, repository: Repository, text: str, sentence: str
) -> None:
    repository.commit({"copier.yml": text})

    assert sentence in refused("billing-svc", "--template", repository.path, "--defaults").err


def test_a_repository_without_questions(refused: Dockyard, repository: Repository) -> None:
    git(repository.path, "rm", "--quiet", "copier.yml")
    repository.commit({})

    assert (
        "it has no copier.yml"
        in refused("billing-svc", "--template", repository.path, "--defaults").err
    )


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("template/broken.txt.jinja", "{{ undefined_name }}", "'undefined_name' is undefined"),
        ("template/broken.txt.jinja", "{% if %}", "cannot be rendered"),
        ("copier.yml", COPIER_YML + "_tasks: [touch owned]\n", "tasks"),
        ("template/{{_copier_conf.answers_file}}.jinja", "{}\n", "could never be updated"),
    ],
)
def test_a_template_at_fault(
    refused: Dockyard, repository: Repository, file: str, text: str, sentence: str
) -> None:
    repository.commit({file: text})

    ran = refused("billing-svc", "--template", repository.path, "--defaults")

    assert sentence in ran.err
    assert "Mend the template" in ran.err


def test_an_unknown_ref_names_the_releases(refused: Dockyard, repository: Repository) -> None:
    repository.commit({"template/release.txt": "two\n"}, tag="v1.0.0")

    ran = refused("billing-svc", "--template", repository.path, "--defaults", "--ref", "v9")

    assert "--ref 'v9' is no tag, branch or commit" in ran.err
    assert "its newest releases are v1.0.0" in ran.err


@pytest.mark.parametrize("ref", ["--upload-pack=x", "HEAD^{tree}", "a b", ""])
def test_a_ref_that_is_no_ref(refused: Dockyard, repository: Repository, ref: str) -> None:
    ran = refused("billing-svc", "--template", repository.path, "--defaults", f"--ref={ref}")

    assert f"--ref {ref!r} is no tag, branch or commit" in ran.err


def test_no_git(
    refused: Dockyard, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "scratch"))

    ran = refused("billing-svc", "--template", repository.path, "--defaults")

    assert "git is needed and not found" in ran.err


def test_no_make(
    refused: Dockyard, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository.commit(
        {"template/Makefile": "contracts:\n", "template/buf.gen.yaml": "version: v2\n"}
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in Path(str(shutil.which("git"))).parent.iterdir():
        if program.name != "make":
            (programs / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))

    ran = refused("billing-svc", "--template", repository.path, "--defaults")

    assert "make is needed and not found" in ran.err


def test_contracts_that_cannot_be_generated(refused: Dockyard, repository: Repository) -> None:
    repository.commit(
        {
            "template/Makefile": (
                "contracts:\n\t@echo 'bad import of https://ada:s3cret@example.com/x' >&2; exit 1\n"
            ),
            "template/buf.gen.yaml": "version: v2\n",
        }
    )

    ran = refused("billing-svc", "--template", repository.path, "--defaults")

    assert (
        "cannot generate the contracts' code of billing-svc: bad import of https://***@example.com/x"
        in ran.err
    )


def test_what_make_itself_cannot_do_is_said_and_not_blamed_on_the_network(
    refused: Dockyard, repository: Repository
) -> None:
    repository.commit(
        {
            "template/Makefile": "contracts: tool\n\t@false\n",
            "template/buf.gen.yaml": "version: v2\n",
        }
    )

    ran = refused("billing-svc", "--template", repository.path, "--defaults")

    assert "make: *** No rule to make target 'tool', needed by 'contracts'" in ran.err
    assert "Mend the Makefile" in ran.err
    assert "network" not in ran.err


def test_no_network(
    refused: Dockyard, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://ada:s3cret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    repository.commit(
        {
            "template/pyproject.toml.jinja": '[project]\nname = "x"\nversion = "0"\n'
            'dependencies = ["absent-package"]\n'
        }
    )

    ran = refused("billing-svc", "--template", repository.path, "--defaults")

    assert "cannot lock the dependencies of billing-svc" in ran.err
    assert "check the connection and the package index" in ran.err
    assert "s3cret" not in ran.err


def test_a_destination_that_is_a_file(
    refused: Dockyard, repository: Repository, into: Path
) -> None:
    (into / "file").write_text("")

    ran = refused(
        "billing-svc", "--template", repository.path, "--defaults", "--into", into / "file"
    )

    assert "cannot write to" in ran.err


@pytest.mark.parametrize("file", ["template/large.txt.jinja", "template/Makefile"])
def test_a_full_disk(repository: Repository, into: Path, tmp_path: Path, file: str) -> None:
    bytes_that_fit = 200_000
    fill = (
        "{{ 'x' * 300000 }}"
        if file.endswith(".jinja")
        else "contracts:\n\thead -c 300000 /dev/zero > gen\n"
    )
    repository.commit({file: fill, "template/buf.gen.yaml": "version: v2\n"})
    command = [
        sys.executable,
        "-m",
        "dockyard",
        "new",
        "billing-svc",
        "--into",
        str(into),
        "--defaults",
    ]

    ran = subprocess.run(
        [*command, "--template", str(repository.path)],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (bytes_that_fit, bytes_that_fit)
        ),
    )

    assert (ran.returncode, listing(into), listing(tmp_path / "scratch")) == (2, [], [])
    assert ran.stderr.splitlines()[-1].startswith("dockyard: cannot ")
    assert "Traceback" not in ran.stderr

"""A rendered service passes its checks and tests right after plain Copier; its checks can fail."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.template import lab

STRANGE = r'Größe "quoted" C:\new {{ braces }} # not a comment'
SHARING = "signup-service"
"""Its events share a package with those it takes."""
MATRIX = [
    dict(zip(("inbox", "bus", "http_api", "service_name", "description"), row, strict=True))
    for row in (
        ("nats-kv", "rabbitmq", "true", SHARING, "Handles sign-ups."),
        ("nats-kv", "nats", "false", "billing-svc", STRANGE),
        ("redis", "nats", "true", SHARING, STRANGE),
        ("postgres", "rabbitmq", "true", "billing-svc", "Handles sign-ups."),
    )
]


@pytest.mark.parametrize("answers", MATRIX, ids=lambda answers: "-".join([*answers.values()][:4]))
def test_a_render_passes_its_own_checks_and_tests(
    render: lab.Render, make_environment: Mapping[str, str], answers: dict[str, str]
) -> None:
    folder = render(**answers)
    lab.run(["make", "check"], folder, make_environment)
    tested = lab.run(["make", "test"], folder, make_environment)
    assert f"{6 if answers['http_api'] == 'true' else 3} passed" in tested


@pytest.mark.parametrize("target", ["contracts", "test", "format"])
def test_any_target_works_as_the_first_one(
    render: lab.Render, make_environment: Mapping[str, str], target: str
) -> None:
    folder = render()
    lab.run(["make", target], folder, make_environment)
    assert (folder / "uv.lock").is_file()


def test_running_without_a_broker_says_which_setting_is_missing(
    render: lab.Render, make_environment: Mapping[str, str]
) -> None:
    done = lab.attempt(["make", "run"], render(), make_environment)
    assert done.returncode != 0
    assert "CHASSIS_BUS_URL is not set" in done.stdout
    assert "Traceback" not in done.stdout


def test_help_is_the_default_and_names_every_target(
    rendered: Path, make_environment: Mapping[str, str]
) -> None:
    shown = lab.run(["make"], rendered, make_environment)
    phony = [
        line.split(": ")[1]
        for line in (rendered / "Makefile").read_text("utf-8").splitlines()
        if ".PHONY" in line
    ]
    assert "image" in phony
    assert [line.split()[1] for line in shown.splitlines()] == phony


def test_the_team_adds_targets_and_variables_in_its_own_file(
    service: Path, make_environment: Mapping[str, str]
) -> None:
    (service / "local.mk").write_text(
        "DOCKER = echo building\n.PHONY: hello\nhello: ## greet\n\t@echo hello\n", "utf-8"
    )
    assert "hello" in lab.run(["make", "hello"], service, make_environment)
    assert "make hello" in lab.run(["make", "help"], service, make_environment)
    (service / "uv.lock").touch()
    (service / "gen").mkdir()
    said = lab.run(["make", "image"], service, make_environment)
    assert "building build --build-arg VERSION=" in said
    assert " --file deploy/Dockerfile --tag registry.example.com/acme/billing-svc:" in said


def test_a_machine_without_uv_gets_one_in_a_private_environment(
    service: Path, make_environment: Mapping[str, str], tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "make", "git", "awk"):
        found = next(
            Path(folder) / name for folder in ("/usr/bin", "/bin") if (Path(folder) / name).exists()
        )
        (programs / name).symlink_to(found)
    (programs / "python3").symlink_to(make_environment["UV_PYTHON"])
    python = f"PYTHON={make_environment['UV_PYTHON']}"
    lab.run(["make", python, "uv.lock"], service, {**make_environment, "PATH": str(programs)})
    assert (service / ".uv/bin/uv").is_file()
    assert (service / "uv.lock").is_file()
    assert not any(path.startswith(".uv/") for path in lab.tree(service))


@pytest.fixture(scope="module")
def checked(
    template: Path, make_environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A committed service whose environment and generated code are made."""
    folder = lab.copy(
        template, tmp_path_factory.mktemp("checked") / "billing-svc", service_name="billing-svc"
    )
    lab.run(["make", "setup"], folder, make_environment)
    lab.commit_all(folder, "set up")
    return folder


@pytest.fixture
def checked_service(checked: Path) -> Iterator[Path]:
    """`checked` for one test to spoil."""
    yield checked
    lab.git(checked, "reset", "--quiet", "--hard")
    lab.git(checked, "clean", "--quiet", "--force", "-d")


HANDLERS = "src/billing_svc/handlers.py"
CONTRACT = "contracts/acme/signup/v1/user_signed_up.proto"


@pytest.mark.parametrize(
    ("path", "old", "new", "complaint"),
    [
        (HANDLERS, "from chassis import", "import os\nfrom chassis import", "F401"),
        (HANDLERS, '"billing-svc"', "'billing-svc'", "would be reformatted"),
        (HANDLERS, "ctx.publish(", "ctx.publissh(", 'has no attribute "publissh"'),
        (
            HANDLERS,
            "user_id=event.user_id)\n    ctx",
            "user_id=event.user)\n    ctx",
            '"UserSignedUp" has no attribute "user"',
        ),
        (CONTRACT, "message UserSignedUp", "message user_signed_up", "should be PascalCase"),
        (CONTRACT, "  string email", "      string email", "string email"),
        (
            CONTRACT,
            "string email = 2;",
            "string email = 2;\n  string plan = 4;",
            "run 'make contracts' and commit the result",
        ),
        ("gen/acme/signup/v1/user_signed_up_pb2.pyi", "user_id", "user_name", '"UserSignedUp"'),
        ("pyproject.toml", '"ruff>=0.14"', '"ruff>=0.14",\n  "typer"', "lockfile"),
        (
            "tests/test_handlers.py",
            'user_id="u-1"',
            'user_id="u-1", nobody=1',
            'Unexpected keyword argument "nobody"',
        ),
    ],
)
def test_check_fails_on(
    checked_service: Path,
    make_environment: Mapping[str, str],
    path: str,
    old: str,
    new: str,
    complaint: str,
) -> None:
    file = checked_service / path
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    done = lab.attempt(["make", "check"], checked_service, make_environment)
    assert done.returncode != 0
    assert complaint in done.stdout


def test_check_does_not_mend_what_it_complains_about(
    checked_service: Path, make_environment: Mapping[str, str]
) -> None:
    file = checked_service / CONTRACT
    file.write_text(
        file.read_text("utf-8").replace(
            "string email = 2;", "string email = 2;\n  string plan = 4;"
        ),
        "utf-8",
    )
    before = lab.tree(checked_service)
    lab.attempt(["make", "check"], checked_service, make_environment)
    assert lab.tree(checked_service) == before


def test_a_breaking_change_of_a_contract_is_refused_and_a_compatible_one_not(
    checked_service: Path, make_environment: Mapping[str, str]
) -> None:
    file = checked_service / CONTRACT
    compatible = file.read_text("utf-8").replace(
        "string email = 2;", "string email = 2;\n  string plan = 4;"
    )
    file.write_text(compatible, "utf-8")
    lab.run(["make", "breaking", "AGAINST=main"], checked_service, make_environment)
    file.write_text(compatible.replace("string email = 2;", "int64 email = 2;"), "utf-8")
    done = lab.attempt(["make", "breaking", "AGAINST=main"], checked_service, make_environment)
    assert done.returncode != 0
    assert 'changed type from "string" to "int64"' in done.stdout


def test_the_hooks_pass_on_a_new_service_and_stop_what_check_would_stop(
    checked_service: Path, make_environment: Mapping[str, str]
) -> None:
    prek = [str(Path(sys.executable).with_name("prek")), "run", "--all-files"]
    environment = {**make_environment, "PREK_HOME": str(checked_service / ".venv/prek")}
    passed = lab.run(prek, checked_service, environment)
    assert passed.count("Passed") == 5
    contract = checked_service / CONTRACT
    contract.write_text(
        contract.read_text("utf-8").replace("message UserSignedUp", "message user_signed_up"),
        "utf-8",
    )
    handlers = checked_service / HANDLERS
    handlers.write_text(
        handlers.read_text("utf-8").replace('"billing-svc"', "'billing-svc'"), "utf-8"
    )
    stopped = lab.attempt(prek, checked_service, environment)
    assert stopped.returncode != 0
    assert "should be PascalCase" in stopped.stdout
    assert stopped.stdout.count("Failed") == 2
    assert '"billing-svc"' in handlers.read_text("utf-8"), "what can be mended is mended"


def test_a_wheel_holds_the_service_and_its_generated_code(
    checked_service: Path, make_environment: Mapping[str, str], tmp_path: Path
) -> None:
    lab.run(
        ["uv", "sync", "--locked", "--no-dev", "--no-editable"],
        checked_service,
        {**make_environment, "UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv")},
    )
    program = (
        "import acme.signup.v1.user_signed_up_pb2, billing_svc.handlers, chassis;"
        " print(chassis.__file__)"
    )
    place = lab.run([tmp_path / "venv/bin/python", "-c", program], tmp_path)
    assert str(tmp_path / "venv") in place
    assert (tmp_path / "venv/bin/billing-svc").is_file()

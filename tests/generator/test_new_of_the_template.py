"""`dockyard new` with the template of this repository."""

import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.generator.lab import Dockyard, git, listing
from tests.template import lab


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """The template as it lies in the working tree, in a repository of its own."""
    folder = tmp_path / "checkout"
    lab.lay_down_template(folder)
    lab.commit_all(folder, "the template")
    return folder


def test_a_service_comes_locked_with_its_contracts_code_and_as_bare_copier_renders_it(
    dockyard: Dockyard, template: Path, into: Path, tmp_path: Path
) -> None:
    ran = dockyard(
        "new",
        "billing-svc",
        "--into",
        into,
        "--template",
        template,
        "--defaults",
        "--data",
        "bus=nats",
    )

    service = into / "billing-svc"
    assert ran.code == 0, ran.err
    assert git(service, "status", "--porcelain", "--ignored") == ""
    subprocess.run([find_uv_bin(), "lock", "--check"], cwd=service, check=True)
    files = lab.tree(service)
    assert "gen/acme/signup/v1/user_signed_up_pb2.py" in files
    rendered = {
        path: content
        for path, content in files.items()
        if path != "uv.lock" and not path.startswith("gen/")
    }
    assert rendered == lab.tree(
        lab.copy(template, tmp_path / "bare", service_name="billing-svc", bus="nats")
    )


def test_a_name_that_shadows_a_module_is_refused_in_the_templates_words(
    dockyard: Dockyard, template: Path, into: Path
) -> None:
    ran = dockyard("new", "json", "--into", into, "--template", template, "--defaults")

    assert ran.code == 2
    assert "the answer to service_name is refused: json would shadow" in ran.err
    assert listing(into) == []

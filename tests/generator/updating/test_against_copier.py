"""`dockyard update` and `copier update`: the same where Copier loses nothing, else more."""

import subprocess
from pathlib import Path

import copier
import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

NEWER = LINES.replace("line 2\n", "line 2, newer\n")
OURS = LINES.replace("line 19\n", "line 19, ours\n")


@pytest.fixture
def twin(service: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Where Copier works, as `both` makes it."""
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "copier"))
    return Made(tmp_path / "twin/billing-svc")


def both(dockyard: Dockyard, service: Made, twin: Made) -> int:
    """Update the service with Dockyard and its twin with Copier; Dockyard's exit code."""
    twin.root.parent.mkdir()
    subprocess.run(["cp", "-a", service.root, twin.root], check=True)
    copier.run_update(twin.root, defaults=True, overwrite=True, quiet=True)
    return dockyard("update", service.root, "--in-place").code


def test_both_agree_where_copier_loses_nothing(
    dockyard: Dockyard, evolving: Repository, service: Made, twin: Made
) -> None:
    service.write(
        {"Makefile": OURS, "src/main.py": "ours\n", "src/extra.py": None, "own.txt": "own\n"}
    )
    services.release(
        evolving,
        {
            "template/Makefile": NEWER,
            "template/old.cfg": None,
            "template/added.txt.jinja": "{{ owner }} {{ region }}\n",
            "template/README.md.jinja": "# Another\n",
            "template/logo.png": b"\0newer",
            "copier.yml": f"{services.QUESTIONS}region: {{type: str, default: eu}}\n",
        },
        "v1.1.0",
    )

    assert both(dockyard, service, twin) == 0

    assert services.contents(service.root) == services.contents(twin.root)


def test_copier_loses_an_edit_of_a_file_that_the_template_renames_and_dockyard_carries_it(
    dockyard: Dockyard, evolving: Repository, service: Made, twin: Made
) -> None:
    service.write({"old.cfg": f"old\n{OURS}"})
    services.release(
        evolving, {"template/old.cfg": None, "template/new.cfg": f"old\n{NEWER}"}, "v1.1.0"
    )

    assert both(dockyard, service, twin) == 0

    assert all(b"ours" not in content for _, content in services.contents(twin.root).values())
    assert git(twin.root, "ls-files", "--unmerged") == ""
    assert "line 19, ours\n" in (service.root / "new.cfg").read_text()


def test_copier_loses_an_edit_of_a_file_that_the_template_deletes_and_dockyard_reports_it(
    dockyard: Dockyard, evolving: Repository, service: Made, twin: Made
) -> None:
    service.write({"old.cfg": f"old\n{OURS}"})
    services.release(evolving, {"template/old.cfg": None}, "v1.1.0")

    assert both(dockyard, service, twin) == 1

    assert all(b"ours" not in content for _, content in services.contents(twin.root).values())
    assert git(twin.root, "ls-files", "--unmerged") == ""
    assert "line 19, ours\n" in (service.root / "old.cfg").read_text()
    assert "old.cfg" in git(service.root, "ls-files", "--unmerged")


def test_copier_updates_what_dockyard_has_updated_and_the_other_way_round(
    dockyard: Dockyard, evolving: Repository, service: Made, twin: Made
) -> None:
    services.release(evolving, {"template/Makefile": NEWER}, "v1.1.0")
    assert both(dockyard, service, twin) == 0
    service.write({})
    twin.write({})
    services.release(evolving, {"template/old.cfg": "newer\n"}, "v1.2.0")

    copier.run_update(service.root, defaults=True, overwrite=True, quiet=True)
    assert dockyard("update", twin.root, "--in-place").code == 0

    assert services.contents(service.root) == services.contents(twin.root)
    assert b"_commit: v1.2.0\n" in (twin.root / ".copier-answers.yml").read_bytes()

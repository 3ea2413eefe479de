"""A template with submodules is rendered with the access that the user's git has."""

from pathlib import Path

from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import Made


def test_a_submodule_is_fetched_by_the_users_address(
    dockyard: Dockyard, evolving: Repository, service: Made, tmp_path: Path, home: Path
) -> None:
    shared = tmp_path / "shared"
    git(tmp_path, "clone", "--quiet", str(evolving.path), str(shared))
    git(home, "config", "--global", "protocol.file.allow", "always")
    git(home, "config", "--global", f"url.{tmp_path}/.insteadOf", "https://nowhere.invalid/")
    add = ("submodule", "--quiet", "add", "https://nowhere.invalid/shared", "template/shared")
    git(evolving.path, *add)
    evolving.commit({}, "v1.1.0")

    ran = dockyard("update", service.root)

    assert ran.code == 0, ran.err
    assert git(service.root, "show", "dockyard/v1.1.0:shared/template/old.cfg").startswith("old\n")

"""A template with a release, and a service of it."""

from pathlib import Path

import pytest

from tests.generator.conftest import Dockyard, Ran, Repository, git
from tests.generator.update import services
from tests.generator.update.services import Made


@pytest.fixture
def evolving(tmp_path: Path, home: Path) -> Repository:
    """The template of `services`, released as v1.0.0."""
    path = tmp_path / "evolving"
    path.mkdir()
    git(path, "init", "--quiet")
    made = Repository(path)
    services.release(made, services.FILES, "v1.0.0")
    return made


@pytest.fixture
def service(evolving: Repository, into: Path) -> Made:
    """A service of v1.0.0."""
    return services.lay_down_service(evolving, into / "billing-svc", "v1.0.0")


@pytest.fixture
def refused(dockyard: Dockyard, service: Made) -> Dockyard:
    """Run a command on `service` that must be refused with a sentence, leaving the service as it was."""

    def run(*arguments: str | Path) -> Ran:
        before = service.state()
        ran = dockyard(*arguments)
        assert ran.code == 2, ran.out + ran.err
        assert ran.err.splitlines()[-1].startswith("dockyard: ")
        assert "Traceback" not in ran.err
        assert service.state() == before
        return ran

    return run

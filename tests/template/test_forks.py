"""Two organisations have forks of the template, and take three releases of it, as the how-to says.

Each fork keeps what is its own in organisation/ and in a folder of its own in template/.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dockyard import commands
from dockyard.rendering.template import open_template
from tests.template import lab

OURS = """\
our:
  when: false
  type: yaml
  default:
    namespace: {name}
    owner: {name}-core
    registry: ghcr.io/{name}
    forge: https://github.com/{name}
    bus: nats
    yours: &yours
      - /docs/onboarding.md
_skip_if_exists: *yours

cost_centre:
  type: str
  help: Cost centre that pays for the service
  default: "0000"
"""
NEW_QUESTION = "region: {type: str, default: eu, help: Where it runs, validator: ''}\n"
OWN_FOLDER = "template/{{ organisation_files }}"
OWN = {
    "docs/onboarding.md.jinja": "# {{ service_name }}, paid by {{ cost_centre }}\n",
    "docs/house-rules.md": "Managed by us: no releases on Fridays.\n",
}


NEWER: Mapping[str, Mapping[str, str | None]] = {
    "v1.1.0": {
        "template/pytest.ini": "# upstream has a new first line\n",
        "template/new.txt": "new\n",
    },
    "v1.2.0": {"template/new.txt": None, "template/docs/renamed.txt": "new\n"},
    "v1.3.0": {"copier.yml": None, "template/docs/renamed.txt": None},
}
"""What upstream's releases change. A first line is added to a file that is there already."""


@dataclass(frozen=True)
class Fork:
    """A fork of the template, and one of its services."""

    name: str
    repository: Path
    service: Path

    def take(self, release: str) -> str:
        """Merge upstream's `release`, and tag the result as the fork's own release."""
        ref = f"refs/tags/{release}"
        lab.git(self.repository, "fetch", "--quiet", "--no-tags", "upstream", ref)
        lab.git(self.repository, "merge", "--quiet", "--no-edit", "FETCH_HEAD")
        tag = f"{release}+{self.name}.1"
        lab.git(self.repository, "tag", tag)
        return tag


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKYARD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def upstream(template: Path, tmp_path: Path) -> Path:
    """The working tree's template as Dockyard's own repository, without the chassis: quicker."""
    folder = tmp_path / "upstream"
    without = shutil.ignore_patterns("chassis", "organisation", ".git", "{{ organisation_files }}")
    shutil.copytree(template, folder, ignore=without)
    lab.commit_all(folder, "the first release")
    lab.git(folder, "tag", "v1.0.0")
    return folder


@pytest.fixture
def forks(upstream: Path, tmp_path: Path) -> list[Fork]:
    """Two forks that are at home, each with an edit of a managed file, and with a service."""
    return [_fork(upstream, tmp_path / name, name) for name in ("globex", "initech")]


def _fork(upstream: Path, folder: Path, name: str) -> Fork:
    folder.mkdir()
    how = ("--quiet", "--no-tags", "--origin", "upstream")
    lab.git(folder, "clone", *how, str(upstream), "dockyard")
    repository = folder / "dockyard"
    _write(repository / "organisation/organisation.yml", OURS.format(name=name))
    for path, text in OWN.items():
        _write(repository / OWN_FOLDER / path, text)
    _write(
        repository / "template/mypy.ini", _text(repository / "template/mypy.ini") + f"# {name}\n"
    )
    lab.commit_all(repository, "make it ours")
    lab.git(repository, "tag", f"v1.0.0+{name}.1")
    service = lab.copy(repository, folder / "billing-svc", f"v1.0.0+{name}.1")
    return Fork(name, repository, service)


def _release(upstream: Path, tag: str) -> None:
    for path, first in NEWER[tag].items():
        file = upstream / path
        if path == "copier.yml":
            _write(file, _text(file).replace("\nbus:\n", f"\n{NEW_QUESTION}\nbus:\n"))
        elif first is None:
            file.unlink()
        else:
            _write(file, first + (_text(file) if file.exists() else ""))
    lab.commit_all(upstream, tag)
    lab.git(upstream, "tag", tag)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def _text(file: Path) -> str:
    return file.read_text("utf-8")


def test_a_service_of_a_fork_has_the_forks_defaults_and_files(forks: list[Fork]) -> None:
    for fork in forks:
        said = yaml.safe_load(_text(fork.service / ".copier-answers.yml"))
        assert (
            said.items()
            >= {
                "_commit": f"v1.0.0+{fork.name}.1",
                "organisation": fork.name,
                "owner": f"{fork.name}-core",
                "bus": "nats",
                "image_registry": f"ghcr.io/{fork.name}",
                "repository_url": f"https://github.com/{fork.name}/example-svc",
                "cost_centre": "0000",
            }.items()
        )
        assert _text(fork.service / "docs/onboarding.md") == "# example-svc, paid by 0000\n"
        assert _text(fork.service / "docs/house-rules.md") == OWN["docs/house-rules.md"]
        assert "/docs/onboarding.md" in open_template(str(fork.repository)).yours


def test_three_releases_of_upstream_reach_the_services_of_two_forks_and_lose_nothing(
    upstream: Path, forks: list[Fork], tmp_path: Path
) -> None:
    for fork in forks:
        _write(fork.service / "docs/onboarding.md", "The team writes here.\n")
        lab.commit_all(fork.service, "the team's work")
    for release in NEWER:
        _release(upstream, release)
        for fork in forks:
            tag = fork.take(release)

            done = commands.update(fork.service, in_place=True)

            lab.commit_all(fork.service, f"update to {tag}")
            assert (done.plans[-1].step.target.version, done.conflicts) == (tag, 0)
            fresh = lab.copy(fork.repository, tmp_path / f"{fork.name}{release}", tag)
            after = lab.tree(fork.service)
            onboarding = after.pop("docs/onboarding.md")
            assert onboarding == b"The team writes here.\n"
            assert after.keys() == lab.tree(fresh).keys() - {"docs/onboarding.md"}
            assert lab.managed(after) == {
                path: content
                for path, content in lab.managed(lab.tree(fresh)).items()
                if path != "docs/onboarding.md"
            }
            assert f"# {fork.name}\n" in _text(fork.service / "mypy.ini")
            said = yaml.safe_load(_text(fork.service / ".copier-answers.yml"))
            assert said["organisation"] == fork.name
    for fork in forks:
        own = "organisation/organisation.yml"
        assert _text(fork.repository / own) == OURS.format(name=fork.name)


def test_plain_copier_updates_a_service_of_a_fork(upstream: Path, forks: list[Fork]) -> None:
    fork = forks[0]
    _write(fork.service / "docs/onboarding.md", "The team writes here.\n")
    lab.commit_all(fork.service, "the team's work")
    _release(upstream, "v1.1.0")
    tag = fork.take("v1.1.0")

    lab.update(fork.service, tag)

    assert _text(fork.service / "docs/onboarding.md") == "The team writes here.\n"
    assert _text(fork.service / "pytest.ini").startswith("# upstream has a new first line\n")
    assert _text(fork.service / "docs/house-rules.md") == OWN["docs/house-rules.md"]


def test_a_file_of_the_fork_is_at_no_path_of_a_file_of_dockyard() -> None:
    paths = [path.removeprefix("template/") for path in lab.template_files()]
    folder = OWN_FOLDER.removeprefix("template/")
    own = {path.removeprefix(f"{folder}/") for path in paths if path.startswith(f"{folder}/")}
    assert own.isdisjoint(path for path in paths if not path.startswith(f"{folder}/"))

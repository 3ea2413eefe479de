"""A ground for the scenarios, a home of their own, and the tally at the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.laws.ground import Ground
from tests.laws.tally import PLANNED, TRIED


@pytest.fixture(scope="package", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home, a git identity, caches and temporary folders that are the laws' alone."""
    folder = tmp_path_factory.mktemp("laws")
    scratch = folder / "scratch"
    scratch.mkdir()
    (folder / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.com\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        # What is killed tidies nothing up.
        patch.setenv("TMPDIR", str(scratch))
        patch.setattr("tempfile.tempdir", str(scratch))
        patch.setenv("DOCKYARD_CACHE_DIR", str(folder / "cache"))
        patch.setenv("COPIER_CACHE_DIR", str(folder / "copier"))
        yield folder


@pytest.fixture(scope="package")
def ground(home: Path) -> Ground:
    """Where scenarios are laid out."""
    (home / "ground").mkdir()
    return Ground(home / "ground")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A law that held was tried as often as promised."""
    yield
    name = item.name.partition("[")[0]
    promised, tried = PLANNED.get(name, 0), TRIED[name]
    assert tried >= promised, f"{name} was tried {tried} times, not {promised}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells the first process how many cases held."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["laws"] = dict(TRIED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    TRIED.update(getattr(node, "workeroutput", {}).get("laws", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many cases held, by law."""
    if TRIED:
        terminalreporter.section("laws of the update")
        for name, count in TRIED.items():
            terminalreporter.write_line(
                f"{count:5d}  {name.removeprefix('test_').replace('_', ' ')}"
            )
        terminalreporter.write_line(f"{TRIED.total():5d}  cases held")

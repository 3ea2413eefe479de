"""Output comes after the deed: what cannot be printed fails no update."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import Made


@pytest.fixture
def outdated(evolving: Repository, service: Made) -> Made:
    services.release(evolving, {"template/old.cfg": "newer\n"}, "v1.1.0")
    return service


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "dockyard", *map(str, arguments)]


@contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb") as file:
        yield file.fileno()


@contextmanager
def gone_reader() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@pytest.mark.parametrize("sink", [full_disk, gone_reader])
@pytest.mark.parametrize("options", [[], ["--json"], ["--in-place"]], ids=" ".join)
def test_a_report_that_cannot_be_written_does_not_fail_an_update(
    outdated: Made, sink: Callable[[], AbstractContextManager[int]], options: list[str]
) -> None:
    with sink() as out:
        ran = subprocess.run(
            command("update", outdated.root, *options),
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )

    assert ran.returncode == 0, ran.stderr
    assert "dockyard: done, but the report cannot be written: " in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    if "--in-place" in options:
        assert (outdated.root / "old.cfg").read_text() == "newer\n"
    else:
        assert git(outdated.root, "show", "dockyard/v1.1.0:old.cfg") == "newer\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_arrows_gets_their_names(outdated: Made, encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    ran = subprocess.run(
        command("update", outdated.root), env=env, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("billing-svc: v1.0.0 \\u2192 v1.1.0\n")


def test_a_closed_output_does_not_fail_an_update(outdated: Made) -> None:
    script = f"exec {' '.join(command('update', outdated.root))} >&- 2>&-"

    assert subprocess.run(["sh", "-c", script], check=False).returncode == 0
    assert git(outdated.root, "show", "dockyard/v1.1.0:old.cfg") == "newer\n"


def test_a_fleet_is_updated_though_nobody_reads(
    dockyard: Dockyard, outdated: Made, into: Path
) -> None:
    with gone_reader() as out:
        ran = subprocess.run(
            command("fleet", "update", into, "--jobs", "1"), stdout=out, stderr=out, check=False
        )

    assert ran.returncode == 0
    assert git(outdated.root, "show", "dockyard/v1.1.0:old.cfg") == "newer\n"

"""An update in place that is stopped leaves the service as it was, or wholly updated."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dockyard.updating import worktree
from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

# Every kind of move: rewritten, deleted, added, in a new folder, a folder that goes away or becomes
# a file.
NEWER: dict[str, str | bytes | None] = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n"),
    "template/old.cfg": None,
    "template/added.txt": "added\n",
    "template/new/deep/added.txt": "added\n",
    "template/gone/a.txt": None,
    "template/shape/b.txt": None,
}


@pytest.fixture
def moving(evolving: Repository, into: Path) -> Made:
    """A service of v1.1.0, with v1.2.0 to move to."""
    services.release(
        evolving, {"template/gone/a.txt": "a\n", "template/shape/b.txt": "b\n"}, "v1.1.0"
    )
    made = services.lay_down_service(evolving, into / "moving-svc", "v1.1.0")
    made.write({"Makefile": LINES.replace("line 19\n", "line 19, ours\n")})
    services.release(evolving, NEWER)
    (evolving.path / "template/shape").rmdir()
    services.release(evolving, {"template/shape": "a file now\n"}, "v1.2.0")
    return made


def moves(service: Made, dockyard: Dockyard, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many times an update of a copy of the service renames something."""
    copy = service.root.with_name("copy-svc")
    subprocess.run(["cp", "-a", service.root, copy], check=True)
    count = 0
    real = worktree._rename

    def counting(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(worktree, "_rename", counting)
        assert dockyard("update", copy, "--in-place").code == 0
    return count


def stop_at(number: int, stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call `stop` instead of the rename `number`; what comes later, as undoing does, is done."""
    left = number
    real = worktree._rename

    def counting(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            stop()
        real(source, target)

    monkeypatch.setattr(worktree, "_rename", counting)


def full() -> None:
    raise OSError(28, "No space left on device")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_update(
    service: Made,
    dockyard: Dockyard,
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[], object],
) -> None:
    """An update in place in a process of its own, in which `arrange` has put a `kill`."""
    child = os.fork()
    if child == 0:
        try:
            arrange()
            dockyard("update", service.root, "--in-place")
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(("stop", "code"), [(full, 2), (interrupt, 130)])
def test_stopped_at_any_rename_the_service_is_as_it_was(
    dockyard: Dockyard,
    moving: Made,
    monkeypatch: pytest.MonkeyPatch,
    stop: Callable[[], None],
    code: int,
) -> None:
    before = moving.state()
    count = moves(moving, dockyard, monkeypatch)
    assert count >= len(NEWER)
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
    for number in range(1, count + 1):
        with monkeypatch.context() as patch:
            stop_at(number, stop, patch)
            assert dockyard("update", moving.root, "--in-place").code == code
        assert moving.state() == before, f"at rename {number}"


def test_killed_at_any_rename_the_next_command_undoes_it(
    dockyard: Dockyard, moving: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = moving.state()
    for number in range(1, moves(moving, dockyard, monkeypatch) + 1):
        killed_update(moving, dockyard, monkeypatch, partial(stop_at, number, kill, monkeypatch))
        assert moving.state() != before

        ran = dockyard("update", moving.root, "--dry-run")

        assert "was killed while it wrote" in ran.err
        assert moving.state() == before, f"at rename {number}"


@pytest.mark.parametrize(
    "saved", ["old.cfg", "Makefile", "added.txt", "new/deep/added.txt", "gone/a.txt", "shape"]
)
def test_what_was_saved_after_a_kill_is_kept_beside(
    dockyard: Dockyard, moving: Made, monkeypatch: pytest.MonkeyPatch, saved: str
) -> None:
    before = services.contents(moving.root)
    count = moves(moving, dockyard, monkeypatch)
    killed_update(moving, dockyard, monkeypatch, lambda: stop_at(count, kill, monkeypatch))
    services.lay_down(moving.root, {saved: "mine\n"})

    ran = dockyard("check", moving.root)

    assert f"what was saved there since is in {saved}.dockyard-kept." in ran.err
    assert services.contents(moving.root) == {
        **before,
        f"{saved}.dockyard-kept": ("file", b"mine\n"),
    }
    assert dockyard("update", moving.root, "--in-place").code == 0


def test_what_git_brought_back_after_a_kill_is_not_kept_twice(
    dockyard: Dockyard, moving: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = moving.state()
    killed_update(moving, dockyard, monkeypatch, lambda: stop_at(4, kill, monkeypatch))
    (moving.root / ".git/index.lock").unlink()
    git(moving.root, "checkout", "--quiet", "HEAD", "--", ".")

    ran = dockyard("check", moving.root)

    assert "what it had done is undone." in ran.err
    assert moving.state() == before


@pytest.mark.parametrize("looked", [False, True])
def test_killed_after_the_last_step_it_is_updated(
    dockyard: Dockyard, moving: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, looked: bool
) -> None:
    dockyard("update", moving.root)
    killed_update(
        moving,
        dockyard,
        monkeypatch,
        lambda: monkeypatch.setattr(worktree, "_clear", lambda _: kill()),
    )
    if looked:
        # Git writes the index anew when it looks at files.
        git(moving.root, "status")

    ran = dockyard("check", moving.root)

    assert ran.code == 1
    assert "killed" not in ran.err
    assert services.contents(moving.root) == services.branch(
        moving.root, "dockyard/v1.2.0", tmp_path / "branch"
    )
    assert moving.state()["git"] == [name for name in moving.state()["git"] if name != "dockyard"]


def test_a_full_disk_while_the_new_files_are_laid_out(evolving: Repository, moving: Made) -> None:
    services.release(evolving, {"template/large.bin": os.urandom(300_000)}, "v1.3.0")
    # Rendered before, so that the limit meets the service and not the cache.
    command = [sys.executable, "-m", "dockyard", "update", str(moving.root)]
    subprocess.run([*command, "--dry-run"], check=True, capture_output=True)
    before = moving.state()

    ran = subprocess.run(
        [*command, "--in-place"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )

    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
    assert moving.state() == before


def test_another_dockyard_at_work_is_left_alone(
    dockyard: Dockyard, moving: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def second() -> None:
        said.append(dockyard("update", moving.root, "--in-place"))

    stop_at(2, second, monkeypatch)
    first = dockyard("update", moving.root, "--in-place")

    assert first.code == 0, first.err
    assert said[0].code == 2
    assert git(moving.root, "diff", "--name-only") == ""

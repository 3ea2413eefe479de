"""Two updates at once, kills and Ctrl-C: each service is as it was, or wholly updated."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from dockyard.fleet import pool
from tests.generator.fleet.conftest import Fleet, branches, rows, states
from tests.generator.lab import Dockyard, git
from tests.generator.services import Made

PATIENCE = 120.0


def until(happened: Callable[[], bool], running: subprocess.Popen[str] | None = None) -> None:
    """Wait for something that must happen, while `running` goes on."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        assert running is None or running.poll() is None, "the command ended"
        time.sleep(0.01)


@contextmanager
def started(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`dockyard fleet update …` in a process and a group of its own, as a terminal starts it."""
    command = [sys.executable, "-m", "dockyard", "fleet", "update", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def held_back(gate: Path) -> dict[str, str]:
    """A service whose tests say that they run, and end when `gate` is there."""
    return {
        "GNUmakefile": f"test:\n\ttouch {gate}.$$PPID\n"
        f"\tuntil test -e {gate} || ! test -e {gate.parent}; do sleep 0.05; done\n"
    }


def is_at_work(gate: Path) -> bool:
    return any(gate.parent.glob(f"{gate.name}.*"))


def test_of_two_updates_at_once_the_second_is_refused_or_waits(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    made = fleet.add("a-svc", held_back(gate))
    fleet.release()
    with started(fleet.folder, "--verify") as first:
        until(lambda: is_at_work(gate), first)

        refused = dockyard("fleet", "update", fleet.folder)
        assert refused.code == 2
        assert f"is being updated already, by process {first.pid} on " in refused.err
        assert rows(dockyard, "status", fleet.folder, code=0)["a-svc"]["branches"] == [
            "dockyard/v1.1.0"
        ]

        with started(fleet.folder, "--wait") as second:
            assert second.stderr is not None
            assert second.stderr.readline().startswith(f"waiting for process {first.pid} on ")
            assert second.poll() is None
            gate.touch()
            assert first.wait(PATIENCE) == 0
            assert second.wait(PATIENCE) == 0
    assert branches(made) == ["dockyard/v1.1.0"]


def test_the_lock_of_a_killed_update_is_free(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    for name in ("a-svc", "b-svc"):
        fleet.add(name, held_back(gate))
    fleet.release()
    with started(fleet.folder, "--verify", "--jobs", "2") as first:
        until(lambda: is_at_work(gate), first)
        first.kill()
        first.wait(PATIENCE)
    gate.touch()

    assert states(rows(dockyard, "update", fleet.folder, "--wait", code=0)) == {
        "a-svc": "updated",
        "b-svc": "updated",
    }


def test_tests_that_run_end_with_a_killed_update(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    for name in ("a-svc", "b-svc"):
        fleet.add(name, {"GNUmakefile": f"test:\n\techo $$$$ >> {gate}.pids; exec sleep 600\n"})
    fleet.release()
    pids = tmp_path / "gate.pids"
    with started(fleet.folder, "--verify", "--jobs", "2") as first:
        until(lambda: pids.exists() and len(pids.read_text().split()) == 2, first)
        first.kill()
    for pid in pids.read_text().split():
        until(lambda pid=pid: not is_running(int(pid)))


def is_running(pid: int) -> bool:
    try:
        # What nobody has waited for yet is still listed, without a command.
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


KILLS = 10
HELD = Path(__file__).with_name("held")
"""The folder of a `sitecustomize` that holds an update amid the writing."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("in_place", [False, True])
def test_killed_at_ten_moments_every_service_is_untouched_or_updated(
    dockyard: Dockyard,
    fleet: Fleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_place: bool,
) -> None:
    made = [fleet.add(f"{number}-svc") for number in range(4)]
    fleet.release()
    options = ("--in-place",) if in_place else ()
    untouched = [each.state() for each in made]
    objects = {str(each.root): None if in_place else written(each) for each in made}
    monkeypatch.setenv("HELD_OBJECTS", json.dumps(objects))

    def update_held_at(moment: int) -> Path:
        folder = tmp_path / f"held-at-{moment}"
        folder.mkdir()
        monkeypatch.setenv("PYTHONPATH", str(HELD))
        monkeypatch.setenv("HELD_IN", str(folder))
        monkeypatch.setenv("HELD_AT", str(moment))
        return folder

    assert dockyard("fleet", "update", fleet.folder, *options).code == 0  # fills the caches
    for each in made:
        put_back(each)
    whole = update_held_at(0)
    with started(fleet.folder, "--jobs", "1", *options) as process:
        assert process.wait(PATIENCE) == 0
    # Two processes have no fewer: what one does while the other is amid the writing counts too.
    moments = (whole / "moments").stat().st_size
    assert moments > KILLS

    for number in range(KILLS):
        for each in made:
            put_back(each)
        held = update_held_at(1 + number * moments // KILLS)
        with started(fleet.folder, "--jobs", "2", *options) as process:
            until((held / "held").exists, process)
            # The first process alone: the others then undo their work. Or all: nothing is undone.
            kill(process, release=held / "release", at_once=number % 3 > 0)
        monkeypatch.delenv("PYTHONPATH")
        for each, before in zip(made, untouched, strict=True):
            assert_whole(dockyard, each, before, in_place=in_place)

    for each in made:
        put_back(each)
    assert dockyard("fleet", "update", fleet.folder, "--jobs", "2", *options).code == 0
    for each in made:
        if in_place:
            assert (each.root / "added.txt").exists()
        else:
            assert git(each.root, "show", "dockyard/v1.1.0:added.txt") == "added\n"


def written(made: Made) -> int:
    """How many files the service's object database has."""
    return sum(len(files) for _, _, files in os.walk(made.root / ".git/objects"))


def pythons_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Dockyard's processes that `process` has begun. A git at work ends by itself."""
    found = []
    for each in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [each] if "python" in each.name().lower() else []
    return found


def kill(process: subprocess.Popen[str], *, release: Path, at_once: bool) -> None:
    """Kill the update, with `at_once` its helpers too; let go of those held back.

    Returns when none of them works.
    """
    helpers = pythons_of(process)
    process.kill()
    for each in helpers if at_once else ():
        with suppress(psutil.NoSuchProcess):
            each.kill()
    release.touch()
    process.communicate(timeout=PATIENCE)
    assert psutil.wait_procs(helpers, timeout=PATIENCE)[1] == []


def put_back(made: Made) -> None:
    """Undo a whole update, so that the next one has everything to write."""
    git(made.root, "reset", "--quiet", "--hard")
    git(made.root, "clean", "--quiet", "-fd")
    for branch in branches(made):
        git(made.root, "branch", "--quiet", "-D", branch)
    git(made.root, "-c", "gc.reflogExpire=now", "reflog", "expire", "--expire=now", "--all")
    git(made.root, "prune", "--expire=now")


def assert_whole(
    dockyard: Dockyard, made: Made, before: dict[str, object], *, in_place: bool
) -> None:
    # A read looks after what a killed process left.
    assert dockyard("check", made.root).code in {0, 1}
    now = made.state()
    git(made.root, "fsck", "--strict")
    if in_place and now["files"] != before["files"]:
        assert (made.root / "added.txt").read_text() == "added\n"
        assert "line 2, newer\n" in (made.root / "Makefile").read_text()
        assert git(made.root, "diff", "--name-only") == ""
    else:
        assert {key: now[key] for key in ("files", "head", "index", "status")} == {
            key: before[key] for key in ("files", "head", "index", "status")
        }
    for branch in branches(made):
        assert git(made.root, "rev-list", "--count", f"trunk..{branch}").strip() == "1"
        assert git(made.root, "show", f"{branch}:added.txt") == "added\n"


def test_ctrl_c_finishes_the_service_at_hand_and_begins_no_other(
    dockyard: Dockyard, fleet: Fleet, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    made = [fleet.add(f"{number}-svc", held_back(gate)) for number in range(6)]
    fleet.release()
    with started(fleet.folder, "--verify", "--jobs", "2") as process:
        until(lambda: len(list(gate.parent.glob("gate.*"))) == 2, process)
        os.killpg(process.pid, signal.SIGINT)
        gate.touch()
        out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert "interrupted" in err
    assert out.splitlines() == [
        "0-svc  updated  v1.0.0  v1.1.0  -  -  -  dockyard/v1.1.0",
        "1-svc  updated  v1.0.0  v1.1.0  -  -  -  dockyard/v1.1.0",
        "2 services: 2 updated",
    ]
    assert [branches(each) for each in made] == [["dockyard/v1.1.0"]] * 2 + [[]] * 4
    assert states(rows(dockyard, "update", fleet.folder, code=0)) == {
        f"{number}-svc": "updated" for number in range(6)
    }


def test_ctrl_c_while_the_workers_start_prints_no_traceback(fleet: Fleet) -> None:
    for number in range(4):
        fleet.add(f"{number}-svc")
    fleet.release()
    with started(fleet.folder, "--jobs", "2") as process:
        until(lambda: bool(pythons_of(process)), process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert "interrupted" in err


def test_ctrl_c_tells_what_one_process_had_finished(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    fleet.add("0-svc", {"GNUmakefile": "test:\n"})
    for name in ("1-svc", "2-svc"):
        fleet.add(name, held_back(gate))
    fleet.release()
    with started(fleet.folder, "--verify", "--jobs", "1", "--json") as process:
        until(lambda: is_at_work(gate), process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130, out + err
    said = json.loads(out)
    assert [(each["name"], each["state"]) for each in said["services"]] == [("0-svc", "updated")]
    assert said["exit_code"] == 130


def die_on_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def nothing() -> None:
    """Prepare nothing."""


def minus(number: int) -> int:
    return -number


def test_a_killed_worker_costs_its_own_item_alone() -> None:
    found = pool.mapped(die_on_three, range(1, 7), jobs=2, prepare=nothing, lost=minus)
    assert sorted(found) == [-3, 1, 2, 4, 5, 6]


def test_items_are_done_in_order_by_one_process() -> None:
    found = pool.mapped(
        abs, [3, 1, 2], jobs=1, prepare=nothing, lost=minus, is_enough=lambda each: each == 1
    )
    assert list(found) == [3, 1]

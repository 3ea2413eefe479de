"""The demo on a screen of 100 columns, and a demo that is interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dockyard.demo.show import COLUMNS, Show


def test_no_line_is_wider_than_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show()
    show.step("word " * 50)
    show.command(["word"] * 50, "comment")
    show.output("word " * 50)
    show.fact("word " * 50)
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) for line in lines if line] == [COLUMNS] * 4
    assert all(line.endswith("…") for line in lines if line)


def test_a_table_that_is_too_wide_loses_its_last_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Show().output(
        f"id  {'type':80}  message of the error\n12  {'UserSignedUp':80}  not enough values"
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["id", "type", "…"], ["12", "UserSignedUp", "…"]]
    assert len({len(line) for line in lines}) == 1


def test_a_stage_is_named_when_it_begins_and_timed_when_it_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Show().stages() as begin:
        begin("rendering")
        assert capsys.readouterr().out == "     rendering"
        begin("locking")
        begun = capsys.readouterr().out
    assert begun.startswith(" ")
    assert begun.endswith(" s · locking")
    assert capsys.readouterr().out.endswith(" s\n")


@pytest.mark.parametrize("moment", ["locking", "publish"])
def test_an_interrupted_demo_leaves_no_process_and_no_file(moment: str, tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "dockyard", "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert demo.stdout is not None
    said = b""
    while moment.encode() not in said:
        said += os.read(demo.stdout.fileno(), 65536) or pytest.fail(said.decode())
    os.killpg(demo.pid, signal.SIGINT)
    os.killpg(demo.pid, signal.SIGINT)
    said += demo.communicate(timeout=60)[0]
    assert demo.returncode == 130, said.decode()
    assert "Traceback" not in said.decode()
    assert [*tmp_path.glob("*dockyard*")] == []
    assert processes_of(tmp_path) == []


def processes_of(folder: Path) -> list[str]:
    """The command lines that name `folder`."""
    lines = [
        " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    ]
    return [line for line in lines if str(folder) in line]

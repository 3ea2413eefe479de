"""A file of dead letters is complete or not there, and a line holds everything."""

import errno
import json
import os
import stat
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from chassis.bus import BusUnavailable, DeadLetter, Failure
from chassis.cli.export import line, replacing
from chassis.cli.session import UsageError


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_file_has_all_lines_and_one_reader(tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    with replacing(file, force=False) as write:
        write("one")
        write("two")
        assert not file.exists()
    assert file.read_text("utf-8") == "one\ntwo\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [BusUnavailable("the broker is away"), KeyboardInterrupt()])
def test_a_failure_halfway_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "dead.jsonl"
    file.write_text("of yesterday", "utf-8")
    with pytest.raises(type(error)), replacing(file, force=True) as write:  # noqa: PT012 - the failure is the block's
        write("one")
        raise error
    assert file.read_text("utf-8") == "of yesterday"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", full)
    file = tmp_path / "dead.jsonl"
    with (
        pytest.raises(UsageError, match=r"cannot write .*dead\.jsonl: No space left"),
        replacing(file, force=False),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_overwritten_only_by_force(tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    file.write_text("of yesterday", "utf-8")
    with (
        pytest.raises(UsageError, match=r"is there already: .* --force"),
        replacing(file, force=False),
    ):
        pass
    assert file.read_text("utf-8") == "of yesterday"
    with replacing(file, force=True) as write:
        write("of today")
    assert file.read_text("utf-8") == "of today\n"


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, force: bool) -> None:
    with pytest.raises(UsageError, match="is no file"), replacing(tmp_path, force=force):
        pass
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="is no file"), replacing(pipe, force=force):
        pass
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"cannot write .*: No such file or directory"),
        replacing(tmp_path / "no" / "dead.jsonl", force=False),
    ):
        pass


def test_headers_that_json_does_not_know_are_kept_as_text() -> None:
    headers = {
        "text": "é",
        "number": 7,
        "flag": True,
        "nothing": None,
        "bytes": b"\xff",
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "decimal": Decimal("1.50"),
        "table": {"deep": [b"\x00"]},
    }
    entry = json.loads(line(DeadLetter("aa11", headers, b"\xff\xfe", "", Failure("bad_envelope"))))
    assert entry["headers"] == headers | {
        "bytes": "/w==",
        "time": "2026-01-02 00:00:00+00:00",
        "decimal": "1.50",
        "table": {"deep": ["AA=="]},
    }
    assert (entry["body"], entry["event"]) == ("//4=", None)

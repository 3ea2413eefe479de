"""Golden events: stored once, read for ever, and told when they are not."""

import json
from pathlib import Path

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1 import user_signed_up_pb2 as v1
from acme.signup.v2 import user_signed_up_pb2 as v2

from chassis.testing import golden

ADA = v1.UserSignedUp(user_id="ada", email="ada@example.org")
TYPE = "acme.signup.v1.UserSignedUp"


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of `ADA` in an otherwise empty folder; nothing is written from here on."""
    monkeypatch.setenv("GOLDEN", "write")
    golden(tmp_path / "golden", ADA)
    monkeypatch.delenv("GOLDEN")
    (file,) = (tmp_path / "golden").iterdir()
    return file


def changed(file: Path, **fields: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | fields), "utf-8")


def test_a_missing_event_is_written_only_when_asked(stored: Path) -> None:
    assert stored.name == f"{TYPE}.json"
    with pytest.raises(
        AssertionError, match=r"acme\.signup\.v2\.UserSignedUp\.json is missing: .* GOLDEN=write"
    ):
        golden(stored.parent, ADA, v2.UserSignedUp(user_id="bob"))
    assert list(stored.parent.iterdir()) == [stored]


def test_what_is_stored_holds_bytes_and_meaning(stored: Path) -> None:
    assert json.loads(stored.read_text("utf-8")) == {
        "type": TYPE,
        "body": "CgNhZGESD2FkYUBleGFtcGxlLm9yZw==",
        "event": {"user_id": "ada", "email": "ada@example.org"},
    }


def test_stored_events_are_given_back_also_those_without_an_example(stored: Path) -> None:
    assert golden(stored.parent, v1.UserSignedUp(user_id="somebody else")) == [ADA]
    stored.rename(stored.with_name("of-long-ago.json"))
    assert golden(stored.parent, ADA) == [ADA]


def test_what_is_stored_is_never_written_again(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored.read_bytes()
    monkeypatch.setenv("GOLDEN", "write")
    bob = v2.UserSignedUp(user_id="bob")
    assert golden(stored.parent, v1.UserSignedUp(user_id="somebody else"), bob) == [ADA, bob]
    assert stored.read_bytes() == before


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"event": {"user_id": "ada"}}, "means something else now: .*make it another version"),
        (
            {"type": "acme.signup.v2.UserSignedUp", "event": {"user_id": "x"}},
            "means something else now",
        ),
        (
            {"type": "acme.gone.v1.UserLeft"},
            "cannot be read any more: 'acme.gone.v1.UserLeft' is not a type",
        ),
        ({"body": "/w=="}, "cannot be read any more: not a acme.signup.v1.UserSignedUp"),
        ({"body": "no base64"}, "is not a golden event"),
        ({"type": None}, "cannot be read any more"),
    ],
)
def test_an_event_that_is_read_otherwise_is_told_with_its_file(
    stored: Path, fields: dict[str, object], says: str
) -> None:
    changed(stored, **fields)
    with pytest.raises(AssertionError, match=rf"acme\.signup\.v1\.UserSignedUp\.json {says}"):
        golden(stored.parent, ADA)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff"])
def test_a_file_that_is_no_golden_event_is_told(stored: Path, text: str) -> None:
    stored.write_text(text, "latin-1")
    with pytest.raises(AssertionError, match="is not a golden event"):
        golden(stored.parent, ADA)


def test_contracts_of_stored_events_need_not_be_imported(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOLDEN", "write")
    opened = AccountOpened(account_id="a-1")
    assert golden(stored.parent, opened) == [opened, ADA]
    monkeypatch.delenv("GOLDEN")
    assert golden(stored.parent, ADA) == [opened, ADA]

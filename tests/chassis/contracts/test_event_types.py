"""Event types, versions, and protobuf messages by name and from JSON."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from acme.signup.v2 import user_signed_up_pb2 as v2
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.contracts.event_types import (
    ContractError,
    event_type,
    find_message,
    from_json,
    is_newer,
    message_class,
    require_fast_protobuf,
    to_event,
    to_json,
    unknown_type_reason,
)

KNOWN = frozenset({"acme.signup.v1.UserSignedUp"})
TYPE = "acme.signup.v1.UserSignedUp"


def test_the_type_of_an_event_is_its_full_name() -> None:
    assert event_type(UserSignedUp) == event_type(UserSignedUp()) == TYPE


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        ("acme.signup.v2.UserSignedUp", "unsupported_version"),
        ("acme.signup.v2alpha1.UserSignedUp", "unsupported_version"),
        ("acme.signup.v10.UserSignedUp", "unsupported_version"),
        ("acme.signup.v1beta1.UserSignedUp", "outdated_version"),
        ("acme.signup.v0.UserSignedUp", "outdated_version"),
        ("acme.signup.v2.UserLeft", "unknown_type"),
        ("acme.billing.v2.UserSignedUp", "unknown_type"),
        ("acme.signup.UserSignedUp", "unknown_type"),
        ("", "unknown_type"),
    ],
)
def test_another_version_is_told_from_an_unknown_type(type_: str, reason: str) -> None:
    assert unknown_type_reason(type_, KNOWN) == reason


def test_a_version_is_outdated_only_when_all_known_ones_are_newer() -> None:
    known = frozenset(
        {
            "acme.signup.v2.UserSignedUp",
            "acme.signup.v4.UserSignedUp",
            "acme.billing.v1.AccountOpened",
        }
    )
    reasons = [
        unknown_type_reason(f"acme.signup.v{number}.UserSignedUp", known) for number in (1, 3, 5)
    ]
    assert reasons == ["outdated_version", "unsupported_version", "unsupported_version"]


def test_versions_have_an_order() -> None:
    ordered = [
        f"acme.signup.{version}.UserSignedUp"
        for version in ("v1alpha", "v1alpha2", "v1beta1", "v1", "v2", "v10")
    ]
    for older, newer in pairwise(ordered):
        assert is_newer(newer, than=older)
        assert not is_newer(older, than=newer)
        assert not is_newer(older, than=older)
    assert not is_newer("acme.signup.v2.UserLeft", than=ordered[0])
    assert not is_newer("UserSignedUp", than="UserSignedUp")


def test_a_new_event_has_an_id_and_a_time_of_its_own() -> None:
    first, second = (to_event(UserSignedUp(user_id="u-1"), source="shop") for _ in range(2))
    assert first.envelope.id != second.envelope.id
    assert first.envelope.time is not None
    assert (first.envelope.source, first.envelope.type) == ("shop", TYPE)
    assert UserSignedUp.FromString(first.body).user_id == "u-1"


def test_an_event_takes_the_id_and_the_time_it_is_given() -> None:
    then = datetime(2026, 1, 2, tzinfo=UTC)
    envelope = to_event(UserSignedUp(), source="shop", id_="e-1", time=then).envelope
    assert (envelope.id, envelope.time) == ("e-1", then)


def test_a_message_is_found_by_its_full_name() -> None:
    assert message_class(TYPE) is UserSignedUp
    with pytest.raises(ContractError, match=r"'acme\.no\.v1\.Such' is not a type.*make contracts"):
        message_class("acme.no.v1.Such")


def test_a_message_is_found_by_its_bare_name_when_there_is_one() -> None:
    assert find_message("AccountOpened") is AccountOpened


def test_a_bare_name_that_two_versions_share_is_refused_with_both() -> None:
    assert v2.UserSignedUp is not UserSignedUp
    with pytest.raises(
        ContractError, match=r"acme\.signup\.v1\.UserSignedUp, acme\.signup\.v2\.UserSignedUp"
    ):
        find_message("UserSignedUp")


def test_a_bare_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(ContractError, match="no contract defines a message Nothing"):
        find_message("Nothing")


def test_a_message_survives_json() -> None:
    message = from_json(TYPE, '{"user_id": "u-1", "email": "a@example.org"}')
    assert message == UserSignedUp(user_id="u-1", email="a@example.org")
    assert from_json(TYPE, to_json(TYPE, message.SerializeToString())) == message


@pytest.mark.parametrize("text", ["{", "[1]", '{"no_such_field": 1}', '{"user_id": 1}', ""])
def test_json_that_does_not_fit_is_refused_with_the_type(text: str) -> None:
    with pytest.raises(ContractError, match=f"not JSON for {TYPE}"):
        from_json(TYPE, text)


def test_a_body_that_does_not_fit_is_refused_with_the_type() -> None:
    with pytest.raises(ContractError, match=f"not a {TYPE}"):
        to_json(TYPE, b"\xff\xff")


def test_a_body_that_json_cannot_show_is_refused_with_the_type() -> None:
    far_away = Timestamp(seconds=2**62)
    with pytest.raises(ContractError, match=r"a google\.protobuf\.Timestamp that JSON cannot show"):
        to_json("google.protobuf.Timestamp", far_away.SerializeToString())


def test_contracts_beside_a_known_one_are_loaded(generated_contracts: Path) -> None:
    code = (
        "from acme.signup.v1.user_signed_up_pb2 import UserSignedUp\n"
        "from chassis.contracts.event_types import ContractError, load_contracts, message_class\n"
        "try:\n    message_class('acme.billing.v1.AccountOpened')\n"
        "except ContractError:\n    pass\n"
        "else:\n    raise SystemExit('loaded before')\n"
        "load_contracts(UserSignedUp)\n"
        "print(message_class('acme.billing.v1.AccountOpened').__name__)\n"
    )
    assert _run(code, PYTHONPATH=str(generated_contracts)).stdout == "AccountOpened\n"


def test_the_fast_protobuf_is_in_use_here() -> None:
    require_fast_protobuf()


def test_the_slow_protobuf_is_refused() -> None:
    code = (
        "from chassis.contracts.event_types import ContractError, require_fast_protobuf\n"
        "try:\n    require_fast_protobuf()\n"
        "except ContractError as error:\n    print(error)\n"
    )
    said = _run(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python").stdout
    assert "'python' implementation" in said
    assert "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION" in said


def _run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )

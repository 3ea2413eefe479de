"""JSON bodies: what is an event, and that everything else is one kind of error."""

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis.contracts.envelope import is_json
from chassis.contracts.event_types import ContractError, to_json
from chassis.contracts.json_body import BadJson, parse_json
from chassis.contracts.upcasters import Upcasters

TYPE = "acme.signup.v1.UserSignedUp"


@pytest.mark.parametrize("body", [b'{"userId": "ada"}', b'{"user_id": "ada", "unknown": {}}'])
def test_both_spellings_of_a_field_are_read_and_unknown_fields_ignored(body: bytes) -> None:
    assert parse_json(UserSignedUp, body) == UserSignedUp(user_id="ada")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b'{"userId": 1}',
        b'{"userId": "a", "userId": "b"}',
        b"[" * 10**5,
    ],
    ids=["empty", "null", "list", "not UTF-8", "wrong type", "twice", "deep"],
)
def test_anything_else_is_bad_json(body: bytes) -> None:
    with pytest.raises(BadJson):
        parse_json(UserSignedUp, body)


def test_upcasters_take_json_too() -> None:
    upcasters = Upcasters()
    upcasters.add(UserSignedUp, AccountOpened, lambda old: AccountOpened(account_id=old.user_id))
    [reading] = [each for each in upcasters.readings([AccountOpened]) if each.sent is UserSignedUp]
    assert reading.parse_json(b'{"userId": "ada"}') == AccountOpened(account_id="ada")


def test_a_body_of_json_is_shown_in_the_one_form() -> None:
    assert to_json(TYPE, b'{"userId": "ada"}', json=True) == '{\n  "user_id": "ada"\n}'
    with pytest.raises(ContractError):
        to_json(TYPE, b"{", json=True)


@pytest.mark.parametrize(
    ("content_type", "json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.acme+json", True),
        ("application/protobuf", False),
        ("application/x-protobuf", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_the_content_type_says_what_is_json(content_type: object, json: bool) -> None:
    assert is_json(content_type) is json

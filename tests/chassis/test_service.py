"""What a team may register, and what a service knows of it."""

import re
from datetime import timedelta
from typing import Any

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service
from chassis.service import RegistrationError


def test_a_handler_must_be_async() -> None:
    service = Service("billing-svc")
    with pytest.raises(RegistrationError, match="handler open_account must be an `async def`"):

        @service.on(UserSignedUp)  # type: ignore[arg-type]
        def open_account(event: UserSignedUp, ctx: Context) -> None: ...


def test_a_handler_takes_an_event_and_its_context() -> None:
    service = Service("billing-svc")
    with pytest.raises(RegistrationError, match="must take two arguments, event and Context"):

        @service.on(UserSignedUp)  # type: ignore[arg-type]
        async def open_account(event: UserSignedUp) -> None: ...


def test_only_messages_of_contracts_can_be_handled() -> None:
    service = Service("billing-svc")
    with pytest.raises(RegistrationError, match="<class 'str'> is no message of a contract"):

        @service.on(str)  # type: ignore[type-var]
        async def open_account(event: str, ctx: Context) -> None: ...


def test_two_handlers_of_one_type_need_two_names() -> None:
    service = Service("billing-svc")

    def register() -> None:
        @service.on(UserSignedUp)
        async def open_account(event: UserSignedUp, ctx: Context) -> None: ...

    register()
    with pytest.raises(
        RegistrationError, match=r"acme\.signup\.v1\.UserSignedUp has a handler called open_account"
    ):
        register()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"concurrency": 0},
            "handler open_account of acme.signup.v1.UserSignedUp: concurrency=0 must be a whole",
        ),
        ({"concurrency": True}, "concurrency=True must be a whole number"),
        ({"concurrency": 1.5}, "concurrency=1.5 must be a whole number"),
        ({"ordered_by": "user_id"}, "ordered_by= must be a plain function"),
        ({"key": "user_id"}, "key= must be a plain function"),
        ({"delivery": "all"}, "delivery='all' must be 'shared' or 'every_replica'"),
        ({"delivery": "every_replica", "key": str}, "key= says what is handled once"),
        ({"delivery": "every_replica", "transaction": True}, "transaction=True needs a claim"),
        ({"timeout": 0}, "timeout=0 must be a time above 0, in seconds or as a timedelta"),
        ({"timeout": timedelta(seconds=-1)}, "must be a time above 0"),
        ({"timeout": "5s"}, "timeout='5s' must be a time above 0"),
        ({"attempts": 0}, "attempts=0 must be a whole number, at least 1, at most 100"),
        ({"attempts": True}, "attempts=True must be a whole number"),
        ({"attempts": 101}, "attempts=101 must be a whole number"),
        ({"backoff": -1}, "backoff=-1 must be a time above 0"),
        ({"backoff": (1,)}, "backoff=(1,) must be a time, or the first and the longest one"),
        ({"backoff": (5, 1)}, "the first time must not be above the longest"),
        ({"rate": 10}, 'rate=10 must be written like "10/s", "90/m" or "500/h"'),
        ({"rate": "0/s"}, "rate='0/s' must be written like"),
        ({"rate": "10/day"}, "rate='10/day' must be written like"),
    ],
)
def test_options_that_mean_nothing_are_refused_with_a_sentence(
    options: dict[str, Any], sentence: str
) -> None:
    service = Service("billing-svc")
    with pytest.raises(RegistrationError, match=re.escape(sentence)):

        @service.on(UserSignedUp, **options)
        async def open_account(event: UserSignedUp, ctx: Context) -> None: ...

    assert service.registry.types == frozenset()


def test_a_service_knows_what_its_replicas_share_and_what_each_gets() -> None:
    service = Service("billing-svc")

    @service.on(UserSignedUp, delivery="every_replica")
    async def forget(event: UserSignedUp, ctx: Context) -> None: ...

    @service.on(AccountOpened)
    @service.on(UserSignedUp)
    async def note(event: UserSignedUp | AccountOpened, ctx: Context) -> None: ...

    assert service.registry.types_of("shared") == {
        "acme.signup.v1.UserSignedUp",
        "acme.billing.v1.AccountOpened",
    }
    assert service.registry.types_of("every_replica") == {"acme.signup.v1.UserSignedUp"}


def test_a_service_knows_which_types_it_takes() -> None:
    service = Service("billing-svc")

    @service.on(UserSignedUp)
    @service.on(AccountOpened)
    async def note(event: UserSignedUp | AccountOpened, ctx: Context) -> None: ...

    assert service.registry.types == {
        "acme.signup.v1.UserSignedUp",
        "acme.billing.v1.AccountOpened",
    }
    assert set(service.registry.messages) == {UserSignedUp, AccountOpened}


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert Service("dockyard-chassis").version != "0"
    assert Service("not-installed-anywhere").version == "0"
    assert Service("billing-svc", version="1.2.3").version == "1.2.3"

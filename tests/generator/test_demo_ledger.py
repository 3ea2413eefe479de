"""The demo's ledger counts; it does not assume."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from dockyard.demo.ledger import Ledger, Provider, balance

SERVICES = ("welcome-svc", "billing-svc")
EVENTS = ("e-1", "e-2")


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    """A provider that every service has called once for every event."""
    provider = Provider(tmp_path / "provider.db")
    for service in SERVICES:
        for event in EVENTS:
            call(provider, service, event)
    return provider


def call(
    provider: Provider, service: str, effect: str, key: str | None = None, at: float = 0
) -> None:
    with closing(sqlite3.connect(provider.path)) as records:
        records.execute(
            "INSERT INTO calls VALUES (?, ?, ?, ?)",
            (service, effect, key or f"{service}/{effect}", at),
        )
        records.commit()


def balanced(
    provider: Provider,
    published: tuple[str, ...] = EVENTS,
    orders: tuple[str, ...] = (),
    **dead: int,
) -> Ledger:
    in_dead_letters = Counter({name.replace("_", "-"): count for name, count in dead.items()})
    return balance(
        provider, published, SERVICES, orders, dead=in_dead_letters, duplicates_ignored=3
    )


def test_when_all_is_well_everything_is_handled_once(provider: Provider) -> None:
    ledger = balanced(provider)
    assert (
        str(ledger) == "published=2 handled=4 undone=0 duplicates_ignored=3 dead=0 lost=0 twice=0"
    )
    assert ledger.balanced


def test_an_event_that_one_service_never_handled_is_lost(provider: Provider) -> None:
    call(provider, "billing-svc", "e-3")
    ledger = balanced(provider, (*EVENTS, "e-3"))
    assert (ledger.lost, ledger.balanced) == (1, False)


def test_an_event_in_the_dead_letters_is_not_lost(provider: Provider) -> None:
    call(provider, "billing-svc", "e-3")
    ledger = balanced(provider, (*EVENTS, "e-3"), welcome_svc=1)
    assert (ledger.lost, ledger.dead, ledger.balanced) == (0, 1, True)


def test_dead_letters_of_one_service_do_not_excuse_another(provider: Provider) -> None:
    call(provider, "billing-svc", "e-3")
    assert balanced(provider, (*EVENTS, "e-3"), billing_svc=1).lost == 1


def test_an_effect_under_a_second_key_happened_twice(provider: Provider) -> None:
    call(provider, "billing-svc", "e-1", key="another")
    ledger = balanced(provider)
    assert (ledger.twice, ledger.balanced) == (1, False)


def test_a_repeated_call_under_the_same_key_had_no_effect(provider: Provider) -> None:
    call(provider, "billing-svc", "e-1")
    ledger = balanced(provider)
    assert (ledger.twice, ledger.repeats_refused, ledger.balanced) == (0, 1, True)


def test_the_same_event_published_twice_counts_once(provider: Provider) -> None:
    assert balanced(provider, (*EVENTS, "e-1")).published == 2


def test_an_order_ends_shipped_or_undone(provider: Provider) -> None:
    for effect in ("charge o-1", "ship o-1", "charge o-2", "refund o-2"):
        call(provider, "a service", effect)
    ledger = balanced(provider, orders=("o-1", "o-2"))
    assert (ledger.published, ledger.handled, ledger.undone) == (4, 6, 1)
    assert ledger.balanced


def test_an_order_that_was_only_charged_is_lost(provider: Provider) -> None:
    call(provider, "billing-svc", "charge o-1")
    ledger = balanced(provider, orders=("o-1",), orders_svc=1)
    assert (ledger.lost, ledger.balanced) == (1, False)


def test_an_order_that_was_shipped_and_refunded_happened_twice(provider: Provider) -> None:
    for effect in ("charge o-1", "ship o-1", "refund o-1"):
        call(provider, "a service", effect)
    ledger = balanced(provider, orders=("o-1",))
    assert (ledger.twice, ledger.balanced) == (1, False)


def test_the_moment_of_an_effect_is_its_first_call(provider: Provider) -> None:
    for at in (12.5, 11.5):
        call(provider, "welcome-svc", "remind o-1", at=at)
    assert provider.moment("remind o-1") == 11.5
    assert provider.calls("remind o-1") == 2

"""NATS, one server and a cluster: streams without a change, rights that let a service work."""

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from nats import connect

from dockyard.servers.nats import covers
from tests.brokers.nats import Nats, nats, nats_cluster
from tests.generator.servers.command import SERVICE, bootstrap, check, faults, passwords_in
from tests.generator.servers.living import live, settings_of

STREAMS = ("EVENTS", "KV_inbox", "KV_processes", f"DLQ_{SERVICE}")


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """Where the passwords are; the manifests are in the folder `files` beside it."""
    path = tmp_path / "passwords"
    bootstrap(passwords=path, more=("--into", str(tmp_path / "files")))
    return path


@contextmanager
def serving(passwords: Path, *, without: str = "") -> Iterator[Nats]:
    """A server with the accounts of the manifest, from which `without` is taken."""
    text = (passwords.parent / "files/nats-accounts.conf").read_text("utf-8")
    known = passwords_in(passwords)
    assert not [secret for secret in known.values() if secret in text]
    assert without in text
    config = passwords.parent / "nats.conf"
    config.write_text(text.replace(without, "") if without else text)
    given = {
        "BILLING_SVC_PASSWORD": known[SERVICE],
        "BOOTSTRAP_PASSWORD": known["bootstrap"],
    }
    os.environ.update(given)
    try:
        with nats(passwords.parent / "data", "--config", str(config)) as server:
            yield server
    finally:
        for name in given:
            del os.environ[name]


def login(server: Nats, passwords: Path, name: str) -> str:
    return server.url.replace("nats://", f"nats://{name}:{passwords_in(passwords)[name]}@")


@asynccontextmanager
async def api(url: str) -> AsyncIterator[Any]:
    """Asks JetStream's API."""
    client = await connect(url.split(","))

    async def ask(call: str, **request: object) -> Mapping[str, Any]:
        answer = await client.request(f"$JS.API.{call}", json.dumps(request).encode(), timeout=10)
        found: Mapping[str, Any] = json.loads(answer.data)
        return found

    try:
        yield ask
    finally:
        await client.close()


async def test_a_service_runs_with_the_rights_of_its_user(passwords: Path) -> None:
    with serving(passwords) as server:
        bootstrap(login(server, passwords, "bootstrap"), passwords=passwords)
        bootstrap(login(server, passwords, "bootstrap"), passwords=passwords)  # nothing is lost
        url = login(server, passwords, SERVICE)
        await live(settings_of(url, url))
        checked = check(url)
        assert checked.findings == []
        assert f"rights of {SERVICE}" in checked.components[0]["seen"]
        assert passwords_in(passwords)[SERVICE] not in checked.text


async def test_a_service_whose_replicas_get_each_event_needs_more_and_gets_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "passwords"
    more = ("--into", str(tmp_path / "files"), "--every-replica", SERVICE)
    bootstrap(passwords=path, more=more)
    with serving(path) as server:
        bootstrap(login(server, path, "bootstrap"), passwords=path)
        url = login(server, path, SERVICE)
        await live(settings_of(url, url), every_replica=True)


@pytest.mark.parametrize(
    ("right", "named"),
    [
        (f'"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{SERVICE}", ', "$JS.API.CONSUMER.MSG.NEXT.EVENTS"),
        ('"$KV.inbox.>", ', "$KV.inbox.>"),
        (f'"dlq.{SERVICE}.>", ', f"dlq.{SERVICE}.>"),
    ],
)
def test_a_right_that_is_taken_away_is_named(passwords: Path, right: str, named: str) -> None:
    with serving(passwords, without=right) as server:
        bootstrap(login(server, passwords, "bootstrap"), passwords=passwords)
        (fault,) = faults(check(login(server, passwords, SERVICE)))
        assert fault["where"] == f"user {SERVICE}"
        assert fault["what"].startswith(f"it may not publish to {named}")


async def test_streams_that_lack_something_are_named_and_bootstrap_mends_them(
    tmp_path: Path,
) -> None:
    with nats(tmp_path) as server:
        missing = faults(check(server.url))
        assert [fault["where"] for fault in missing] == [f"stream {name}" for name in STREAMS]
        async with api(server.url) as ask:
            await ask("STREAM.CREATE.EVENTS", name="EVENTS", subjects=["events.>", "replay.>"])
            bucket = {"name": "KV_inbox", "subjects": ["$KV.inbox.>"], "max_msgs_per_subject": 1}
            await ask("STREAM.CREATE.KV_inbox", **bucket, max_age=3600 * 10**9)
        found = {(fault["where"], fault["what"]) for fault in faults(check(server.url))}
        assert found == {
            ("stream EVENTS", "it does not take delayed.>, alone.>"),
            ("stream EVENTS", "allow_msg_schedules is off"),
            ("stream KV_inbox", "allow_msg_ttl is off"),
            ("stream KV_inbox", "when it is full it drops its oldest messages"),
            ("stream KV_inbox", "it forgets handled events after 0.042 days"),
            ("stream KV_processes", "it does not exist"),
            (f"stream DLQ_{SERVICE}", "it does not exist"),
        }
        bootstrap(server.url, passwords=tmp_path / "passwords")
        assert faults(check(server.url)) == []
        await live(settings_of(server.url, server.url))


async def test_in_a_cluster_copies_are_wished_for_and_made(tmp_path: Path) -> None:
    with nats_cluster(tmp_path) as nodes:
        url = ",".join(node.url for node in nodes)
        bootstrap(url, passwords=tmp_path / "passwords")
        what = "it has 1 of 3 copies: the loss of a node loses events"
        found = faults(check(url, more=("--nodes", "3")))
        assert [(fault["where"], fault["what"]) for fault in found] == [
            (f"stream {name}", what) for name in STREAMS
        ]
        bootstrap(url, passwords=tmp_path / "passwords", more=("--nodes", "3"))
        assert faults(check(url, more=("--nodes", "3"))) == []


async def test_what_bootstrap_makes_is_what_a_service_makes(tmp_path: Path) -> None:
    configs = []
    for name in ("bootstrap", "service"):
        (tmp_path / name).mkdir()
        with nats(tmp_path / name) as server:
            if name == "bootstrap":
                bootstrap(server.url, passwords=tmp_path / "passwords")
            else:
                await live(settings_of(server.url, server.url))
            async with api(server.url) as ask:
                configs.append(
                    [(await ask(f"STREAM.INFO.{stream}"))["config"] for stream in STREAMS]
                )
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("events.>", "events.a.b", True),
        ("events.>", "events.>", True),
        ("events.*", "events.>", False),
        ("events.>", "events", False),
        ("$JS.API.>", "$JS.API.STREAM.INFO.EVENTS", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.*.c", True),
        ("a.b", "a.*", False),
        (">", "a", True),
    ],
)
def test_a_subject_covers_another(wide: str, narrow: str, covered: bool) -> None:
    assert covers(wide, narrow) is covered

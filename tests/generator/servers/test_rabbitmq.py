"""RabbitMQ: a user with least rights lets a service work, and what is missing or lossy is named."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.brokers.nats import nats
from tests.brokers.rabbitmq import ManagementError, RabbitMQ, shared_rabbitmq
from tests.generator.servers.command import SERVICE, bootstrap, check, faults, passwords_in
from tests.generator.servers.living import live, settings_of

VHOST = "platform-check"


@pytest.fixture
def node() -> Iterator[RabbitMQ]:
    """A node without the virtual host and the user of these tests, before and after."""
    node = shared_rabbitmq()
    if not node.server.alive:
        node.server.start()
    yield node
    for path in (f"/api/vhosts/{VHOST}", f"/api/users/{SERVICE}"):
        with suppress(ManagementError):  # not every test makes both
            node.call("DELETE", path)


def management(node: RabbitMQ) -> str:
    return f"http://guest:guest@127.0.0.1:{node.http_port}/{VHOST}"


async def test_a_service_runs_with_the_rights_of_its_user(node: RabbitMQ, tmp_path: Path) -> None:
    bootstrap(management(node), passwords=tmp_path / "passwords")
    bootstrap(management(node), passwords=tmp_path / "passwords")  # again: nothing is lost
    password = passwords_in(tmp_path / "passwords")[SERVICE]
    url = f"amqp://{SERVICE}:{password}@127.0.0.1:{node.amqp_port}/{quote(VHOST, safe='')}"
    with nats(tmp_path / "nats") as store:
        await live(settings_of(url, store.url))
    checked = check(management(node))
    assert checked.findings == []
    assert password not in checked.text
    (limits,) = node.call("GET", f"/api/user-limits/{SERVICE}")
    assert limits["value"] == {"max-connections": 100}


def test_every_fault_is_named_with_its_place(node: RabbitMQ, tmp_path: Path) -> None:
    url = management(node)
    assert [fault["where"] for fault in faults(check(url))] == [f"virtual host {VHOST}"]
    bootstrap(url, passwords=tmp_path / "passwords")
    assert faults(check(url)) == []

    rights = f"/api/permissions/{VHOST}/{SERVICE}"
    whole = node.call("GET", rights)
    for right, pattern, missing in (
        ("write", f"^(events|{SERVICE}(\\..+)?)$", "amq.default"),
        ("configure", f"^({SERVICE}(\\..+)?)$", "events"),
        ("read", f"^(events|{SERVICE})$", f"{SERVICE}.dead"),
    ):
        node.call("PUT", rights, whole | {right: pattern})
        (fault,) = faults(check(url))
        assert fault["where"] == f"user {SERVICE}"
        assert fault["what"].startswith(f"it has no right to {right} {missing}")
    node.call("PUT", rights, whole)

    lossy = {"pattern": "^billing", "definition": {"message-ttl": 1000}, "apply-to": "queues"}
    node.call("PUT", f"/api/policies/{VHOST}/short", lossy)
    node.call("PUT", f"/api/queues/{VHOST}/{SERVICE}", {"durable": True})
    found = {fault["where"]: fault["what"] for fault in faults(check(url, more=("--nodes", "3")))}
    assert found == {
        "cluster": "1 of 3 nodes run",
        "policy short": f"it sets message-ttl on the queue {SERVICE}: events get lost",
        f"queue {SERVICE}": "it is a classic queue and has no copies",
    }


def test_a_user_with_too_many_rights_is_a_warning(node: RabbitMQ, tmp_path: Path) -> None:
    bootstrap(management(node), passwords=tmp_path / "passwords")
    node.call("PUT", f"/api/users/{SERVICE}", {"password": "p", "tags": "administrator"})
    checked = check(management(node))
    assert checked.code == 0
    (finding,) = checked.findings
    assert (finding["level"], finding["where"]) == ("warning", f"user {SERVICE}")


def test_a_wrong_login_is_a_fault_that_shows_no_password(node: RabbitMQ) -> None:
    checked = check(f"http://guest:s3cret@127.0.0.1:{node.http_port}/")
    (fault,) = faults(checked)
    assert fault["where"] == "server"
    assert "401" in fault["what"]
    assert "s3cret" not in checked.text


def test_the_definitions_do_what_the_command_does(node: RabbitMQ, tmp_path: Path) -> None:
    bootstrap(passwords=tmp_path / "passwords", more=("--into", str(tmp_path / "files")))
    text = (tmp_path / "files/rabbitmq-definitions.json").read_text("utf-8")
    assert passwords_in(tmp_path / "passwords")[SERVICE] not in text
    node.call("POST", "/api/definitions", json.loads(text))
    try:
        assert faults(check(management(node).replace(VHOST, ""))) == []
    finally:
        node.call("DELETE", "/api/exchanges/%2F/events")

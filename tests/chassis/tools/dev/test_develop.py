"""`dev` of two services: they hear each other without a setting, and settings come first."""

import asyncio
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import settings
from chassis.bus.nats import NatsBus
from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.tools import address, dev
from chassis.tools.dev.choice import Choice
from tests.brokers.process import running
from tests.chassis.conftest import LogLines
from tests.waiting import PATIENCE_WITH_PROCESSES, eventually

CHOICE = Choice("nats", "nats", "acme", {})

SERVICE = """
import sys
from chassis import Context, Service
from chassis.cli import main
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

service = Service(sys.argv.pop(1))

@service.on(UserSignedUp)
async def handle(event: UserSignedUp, ctx: Context) -> None:
    print("handled", event.user_id, flush=True)

main(service)
"""


class Dev:
    """The command of a service in its own folder."""

    def __init__(self, folder: Path, name: str, contracts: Path) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / ".copier-answers.yml").write_text("organisation: acme\n")
        self.log = self.folder / "log"
        self._command = [sys.executable, "-c", SERVICE, name]
        self._env = {
            "PYTHONPATH": str(contracts),
            "XDG_STATE_HOME": str(folder / "state"),
            "CHASSIS_HTTP_PORT": "0",
        }

    async def start(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command, "dev", cwd=self.folder, env=self._env, stdout=log, stderr=log
            )
        await eventually(
            lambda: '"ready"' in self.log.read_text() or process.returncode is not None,
            PATIENCE_WITH_PROCESSES,
        )
        assert process.returncode is None, self.log.read_text()
        return process

    async def publish(self, user: str) -> None:
        """By the address that other commands find in the folder."""
        bus = NatsBus(
            address.of_running(self.folder / ".dockyard")["bus_url"], name="test", ack_wait=2
        )
        await bus.start()
        try:
            await asyncio.wait_for(bus.wait_ready(), PATIENCE_WITH_PROCESSES)
            told = Envelope(user, "test", "acme.signup.v1.UserSignedUp")
            await bus.publish(EncodedEvent(told, UserSignedUp(user_id=user).SerializeToString()))
        finally:
            await bus.close()

    async def says(self, words: str) -> None:
        await eventually(lambda: words in self.log.read_text(), PATIENCE_WITH_PROCESSES)


@pytest.fixture
def family() -> Iterator[None]:
    yield
    for child in psutil.Process().children():
        if "UserSignedUp" in " ".join(child.cmdline()):
            child.kill()


async def test_two_services_of_an_organisation_hear_each_other_without_settings(
    folder: Path, generated_contracts: Path, family: None
) -> None:
    signup, billing = (
        Dev(folder, name, generated_contracts) for name in ("signup-svc", "billing-svc")
    )
    first = await signup.start()
    second = await billing.start()
    assert "joined the NATS that signup-svc started" in billing.log.read_text()
    await signup.publish("ada")
    await billing.says("handled ada")
    await signup.says("handled ada")

    first.send_signal(signal.SIGINT)
    assert await first.wait() == 0
    assert address.of_running(signup.folder / ".dockyard") == {}
    await billing.publish("bob")
    await billing.says("handled bob")

    second.send_signal(signal.SIGINT)
    assert await second.wait() == 0
    assert running(folder) == []
    assert not re.search(r'"level": "(warning|error)"', signup.log.read_text())


async def connected(folder: Path, choice: Choice, **given: str) -> settings.Settings:
    async with AsyncExitStack() as stack:
        servers = dev._Servers(stack, "billing-svc", choice, folder)
        return await dev._connected(settings.load({}, **given), servers)


async def test_one_nats_is_broker_and_store(folder: Path) -> None:
    found = await connected(folder, CHOICE)
    assert found.inbox == found.bus
    assert found.bus.startswith("nats://127.0.0.1:")


async def test_given_urls_start_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "SERVERS", {})
    given = {"bus_url": "amqp://broker", "inbox_url": "redis://store"}
    found = await connected(folder, replace(CHOICE, bus="rabbitmq", store="redis"), **given)
    assert (found.bus, found.inbox) == ("amqp://broker", "redis://store")
    for bus in ("memory://", "nats://broker"):
        assert (await connected(folder, CHOICE, bus_url=bus)).inbox == bus


async def test_beside_a_given_broker_the_chosen_store_is_started(folder: Path) -> None:
    found = await connected(folder, replace(CHOICE, store="redis"), bus_url="nats://broker")
    assert (found.bus, found.inbox.split("@")[1][:10]) == ("nats://broker", "127.0.0.1:")


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (replace(CHOICE, bus="rabbitmq"), "services that run on RabbitMQ do not hear this one"),
        (replace(CHOICE, store="redis"), "the inbox is a bucket of NATS"),
        (replace(CHOICE, store="postgres"), "there are no transactions and no outbox"),
    ],
)
async def test_what_cannot_be_had_is_nats_and_one_line_says_what_differs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines, choice: Choice, told: str
) -> None:
    for kind, server in dev.SERVERS.items():
        if kind != "nats":
            absent = replace(server, programs={"absent": ()}, package=None)
            monkeypatch.setitem(dev.SERVERS, kind, absent)
    found = await connected(folder, choice)
    assert found.inbox == found.bus
    assert found.bus.startswith("nats://")
    (warning,) = (line for line in log_lines() if line["level"] == "warning")
    assert told in warning["event"]
    assert "absent not found" in warning["reason"]


def test_servers_are_shared_by_user_and_organisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert dev._folder("acme") == Path("/state/dockyard/acme")
    assert dev._folder(None) == Path(".dockyard")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/ada")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert dev._folder("acme") == Path("/ada/.local/state/dockyard/acme")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert dev._folder("acme") == Path("/var/lib/dockyard/acme")


def test_the_addresses_are_for_other_commands_while_dev_runs(tmp_path: Path) -> None:
    own = settings.load({}, bus_url="amqp://u:p@h/%2F", inbox_url="redis://h/0")
    with address.announced(tmp_path / "dev", own):
        assert address.of_running(tmp_path / "dev") == {
            "bus_url": "amqp://u:p@h/%2F",
            "inbox_url": "redis://h/0",
        }
        assert (tmp_path / "dev/dev.env").stat().st_mode & 0o077 == 0
    assert address.of_running(tmp_path / "dev") == {}

"""The command of a service in this process, with a broker in memory behind it."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from chassis import Context, Service
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.cli import main

TYPE = "acme.billing.v1.AccountOpened"
HANDLED = "acme.signup.v1.UserSignedUp"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Run = Callable[..., Said]


def billing() -> Service:
    from acme.signup.v1.user_signed_up_pb2 import UserSignedUp  # noqa: PLC0415 - generated later

    service = Service("billing-svc", version="1.2.3")

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None: ...

    return service


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line of billing-svc in an empty folder, with the test's settings alone."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("CHASSIS_"):
            monkeypatch.delenv(name)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["billing-svc", *arguments])
        root = logging.getLogger()
        of_pytest, level = root.handlers, root.level
        try:
            with pytest.raises(SystemExit) as ended:
                main(billing())
        finally:  # a command sets up the logging of its process
            root.handlers = of_pytest
            root.setLevel(level)
            structlog.reset_defaults()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    """The broker that the commands connect to."""
    broker = MemoryBroker()
    monkeypatch.setenv("CHASSIS_BUS_URL", "memory://")
    monkeypatch.setattr("chassis.adapters.open_bus", lambda *_: MemoryBus(broker))
    return broker


def settings(**variables: str) -> dict[str, str]:
    """The environment with these settings and no others."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("CHASSIS_")
    } | variables

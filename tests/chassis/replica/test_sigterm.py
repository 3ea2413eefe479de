"""SIGTERM at any moment of a replica's first seconds: exit code 0, as real processes.

`make chaos-sigterm` sends 75 for each bus with each store, over ten seconds of each process.
"""

import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import pytest
from jinja2 import Template

from tests.brokers.nats import nats
from tests.brokers.process import free_port
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.brokers.stores import STORES

ROUNDS = int(os.environ.get("SIGTERMS", "8"))
LONG = ROUNDS > 8
SECONDS = 10.0 if LONG else 3.0
AT_ONCE = 4
DEADLINE = 30.0

MAIN = Path("template/src/{{ package }}/__main__.py.jinja")
HANDLERS = """
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from chassis import Context, Service

service = Service("billing-svc", version="1.2.3")

@service.on(UserSignedUp)
async def signed_up(event: UserSignedUp, ctx: Context) -> None: ...
"""


_log = logging.getLogger(__name__)


@contextmanager
def _servers(folder: Path, bus: str, store: str) -> Iterator[dict[str, str]]:
    """Of a bus and a store; `bus`: the bus keeps the inbox too."""
    with ExitStack() as stack:
        for name in ("broker", "store"):
            (folder / name).mkdir()
        if bus == "nats":
            env = {"CHASSIS_BUS_URL": stack.enter_context(nats(folder / "broker")).url}
        else:
            env = {"CHASSIS_BUS_URL": stack.enter_context(shared_rabbitmq().vhost(folder.name))}
        if store != "bus":
            url, _ = stack.enter_context(STORES[store](folder / "store"))
            env["CHASSIS_INBOX_URL"] = url
        yield env


@contextmanager
def _refused(folder: Path) -> Iterator[dict[str, str]]:
    yield {
        "CHASSIS_BUS_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}/",
        "CHASSIS_INBOX_URL": f"nats://127.0.0.1:{free_port()}",
    }


SHORT_PAIRS = [("nats", "bus"), ("rabbitmq", "nats-kv")]
PAIRS = [*((bus, store) for bus in ("rabbitmq", "nats") for store in STORES), ("nats", "bus")]
SURROUNDINGS: dict[str, Callable[[Path], AbstractContextManager[dict[str, str]]]] = {
    f"{bus} {store}": partial(_servers, bus=bus, store=store)
    for bus, store in (PAIRS if LONG else SHORT_PAIRS)
} | {"neither broker nor store": _refused}


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_sigterm_at_any_moment_ends_with_exit_code_0(
    around: str, generated_contracts: Path, tmp_path: Path
) -> None:
    package = tmp_path / "billing_svc"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "handlers.py").write_text(HANDLERS)
    answers = {"package": "billing_svc", "service_name": "billing-svc", "http_api": False}
    (package / "__main__.py").write_text(Template(MAIN.read_text()).render(answers))
    moments = [SECONDS * (number + random.random()) / ROUNDS for number in range(ROUNDS)]
    with SURROUNDINGS[around](tmp_path) as env, ThreadPoolExecutor(AT_ONCE) as pool:
        env |= {
            "PYTHONPATH": f"{generated_contracts}{os.pathsep}{tmp_path}",
            "CHASSIS_HTTP_PORT": "0",
        }
        ends = list(pool.map(lambda moment: _ended(env, moment, tmp_path), moments))
    _log.info("%s: %d processes, the slowest took %.1f s", around, ROUNDS, max(e[3] for e in ends))
    assert [end for end in ends if end[1] != 0] == []


def _ended(env: dict[str, str], moment: float, folder: Path) -> tuple[float, int, str, float]:
    """The moment, the exit code, the end of the log, and the seconds from SIGTERM to the end."""
    log = folder / f"{moment}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "billing_svc", "run"],
            env=os.environ | env,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            end = monotonic() + moment
            while not _catches_sigterm(process.pid) or monotonic() < end:
                if process.poll() is not None:
                    return moment, process.returncode or 1, log.read_text()[-2000:], 0.0
                sleep(0.002)
            process.terminate()
            told = monotonic()
            code = process.wait(DEADLINE)
        finally:
            process.kill()
    return moment, code, log.read_text()[-2000:], monotonic() - told


def _catches_sigterm(pid: int) -> bool:
    """Whether Python has run our first line."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

"""SIGTERM at any moment of a replica's first seconds: exit code 0, as real processes.

SIGTERMS=300 sends 300 for each case, over the first ten seconds of each process.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
from jinja2 import Template

from tests.brokers.nats import nats
from tests.brokers.process import free_port
from tests.brokers.rabbitmq import shared_rabbitmq

ROUNDS = int(os.environ.get("SIGTERMS", "8"))
SECONDS = 10.0 if ROUNDS > 8 else 3.0
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


@contextmanager
def _nats(folder: Path) -> Iterator[dict[str, str]]:
    with nats(folder) as broker:
        yield {"CHASSIS_BUS_URL": broker.url}


@contextmanager
def _rabbitmq(folder: Path) -> Iterator[dict[str, str]]:
    with nats(folder) as store, shared_rabbitmq().vhost(folder.name) as url:
        yield {"CHASSIS_BUS_URL": url, "CHASSIS_INBOX_URL": store.url}


@contextmanager
def _refused(folder: Path) -> Iterator[dict[str, str]]:
    yield {
        "CHASSIS_BUS_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}/",
        "CHASSIS_INBOX_URL": f"nats://127.0.0.1:{free_port()}",
    }


SURROUNDINGS = {"nats": _nats, "rabbitmq": _rabbitmq, "neither broker nor store": _refused}


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
    assert [end for end in ends if end[1] != 0] == []


def _ended(env: dict[str, str], moment: float, folder: Path) -> tuple[float, int, str]:
    """The moment, the exit code and the end of the log of one process."""
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
                    return moment, process.returncode or 1, log.read_text()[-2000:]
                sleep(0.002)
            process.terminate()
            code = process.wait(DEADLINE)
        finally:
            process.kill()
    return moment, code, log.read_text()[-2000:]


def _catches_sigterm(pid: int) -> bool:
    """Whether Python has run our first line."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

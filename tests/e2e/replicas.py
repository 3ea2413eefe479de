"""A rendered service in real processes, as its team runs it. Its effects are recorded outside."""

import json
import os
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.brokers.process import Server, free_port
from tests.waiting import PATIENCE_WITH_PROCESSES as PATIENCE
from tests.waiting import until

HANDLERS = '''"""The handler under test: an effect that somebody outside counts."""

import asyncio
import os
import sqlite3
from pathlib import Path

from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from chassis import Context, Service

service = Service("billing-svc")
ledger = os.environ.get("TEST_EFFECTS", ":memory:")
effects = sqlite3.connect(ledger, isolation_level=None, timeout=30)
pause = float(os.environ.get("TEST_PAUSE", "0"))
gate = Path(os.environ.get("TEST_GATE", "."))


@service.on(UserSignedUp)
async def handle_signup(event: UserSignedUp, ctx: Context) -> None:
    if event.email == "poison":
        raise ValueError("poison")
    await asyncio.sleep(pause)
    while not gate.exists():
        await asyncio.sleep(0.1)
    effects.execute("INSERT INTO effects VALUES (?)", (ctx.event_id,))
'''


class Effects:
    """What the handlers did, counted by event id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as table:
            table.execute("PRAGMA journal_mode=WAL")
            table.execute("CREATE TABLE effects (event_id TEXT)")

    def counts(self) -> Counter[str]:
        with closing(sqlite3.connect(self.path, timeout=30)) as table:
            return Counter(
                dict(
                    table.execute(
                        "SELECT event_id, COUNT(*) FROM effects GROUP BY event_id"
                    ).fetchall()
                )
            )

    def until(self, events: int) -> Counter[str]:
        """The counts once `events` different ones were handled."""
        until(lambda: len(self.counts()) >= events, f"{events} events being handled")
        return self.counts()


@dataclass
class Replica:
    """One process of the service."""

    folder: Path
    env: Mapping[str, str]
    log: Path
    http_port: int = field(default_factory=free_port)
    program: Sequence[str | Path] = ()
    """The service's command. Empty: the rendered service's in `folder`."""

    def __post_init__(self) -> None:
        self.program = self.program or [self.folder / ".venv/bin/billing-svc"]
        self.server = Server(
            [*self.program, "run"],
            self.ready,
            self.log,
            {
                **self.env,
                "CHASSIS_HTTP_PORT": str(self.http_port),
                "CHASSIS_HTTP_HOST": "127.0.0.1",
            },
            self.folder,
        )

    def ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.http_port}{path}", timeout=5
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, sample: str) -> float:
        """The value of a sample written as in the text format, 0 when it is not there."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def terminate(self) -> int:
        """SIGTERM; the exit code once it has ended."""
        process = self.server._running()
        process.terminate()
        return process.wait(PATIENCE)

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.server.pid).memory_info().rss)

    def command(
        self, *arguments: str, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """One of the service's own commands, with this replica's settings."""
        return subprocess.run(
            [*self.program, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """One of the service's own commands while it runs; it is gone afterwards."""
        with subprocess.Popen(
            [*self.program, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def dead_letters(self) -> list[dict[str, Any]]:
        """All that is known of each."""
        done = self.command("dlq", "export", "-")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

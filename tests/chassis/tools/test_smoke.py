"""`smoke` notices each way in which a replica fails, shown with programs that are none."""

import sys

import pytest

from chassis.tools.smoke import SmokeFailed, replica

SERVER = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.end_headers()
    def log_message(self, *_): pass

server = HTTPServer((os.environ["CHASSIS_HTTP_HOST"], int(os.environ["CHASSIS_HTTP_PORT"])), Ready)
signal.signal(signal.SIGTERM, {on_sigterm})
server.serve_forever()
"""


def program(on_sigterm: str = "lambda *_: os._exit(0)", status: int = 200) -> list[str]:
    return [sys.executable, "-c", SERVER.format(on_sigterm=on_sigterm, status=status)]


async def test_a_replica_that_answers_and_ends_with_zero_passes() -> None:
    async with replica(program(), patience=30) as one:
        await one.ready()
        await one.drains(1)


async def test_another_exit_code_than_zero_fails() -> None:
    async with replica(program("lambda *_: os._exit(3)"), patience=30) as one:
        await one.ready()
        with pytest.raises(SmokeFailed, match="ended with 3 after SIGTERM, not with 0"):
            await one.drains(1)


async def test_a_replica_that_ignores_sigterm_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.tools.smoke._CLOSE_SECONDS", 0.1)
    async with replica(program("signal.SIG_IGN"), patience=30) as one:
        await one.ready()
        with pytest.raises(SmokeFailed, match=r"still ran 0\.2 s after SIGTERM"):
            await one.drains(0.1)


async def test_a_replica_that_never_gets_ready_fails() -> None:
    async with replica(program(status=503), patience=2) as one:
        with pytest.raises(SmokeFailed, match="within 2 s it was not ready"):
            await one.ready()


async def test_a_program_that_ends_by_itself_fails_at_once() -> None:
    async with replica([sys.executable, "-c", "raise SystemExit(2)"], patience=600) as one:
        with pytest.raises(SmokeFailed, match="it ended by itself with 2; its log says why"):
            await one.ready()

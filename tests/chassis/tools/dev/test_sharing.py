"""One server for all `dev` of an organisation, from the first that uses it to the last."""

import asyncio
import fcntl
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from redis.asyncio import Redis

from chassis.bus.nats import NatsBus
from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.tools.dev import SERVERS
from chassis.tools.dev.nats import NATS
from chassis.tools.dev.postgres import POSTGRES
from chassis.tools.dev.redis import REDIS
from chassis.tools.dev.server import ServerMissingError
from chassis.tools.dev.sharing import shared
from tests.brokers.binaries import find
from tests.brokers.process import running
from tests.chassis.conftest import LogLines
from tests.chassis.tools.dev.conftest import keeper
from tests.waiting import PATIENCE_WITH_PROCESSES, eventually

DEV = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from chassis.tools.dev.nats import NATS
from chassis.tools.dev.sharing import shared

async def answers(place):
    print("asked", flush=True)
    return sys.argv[2] == "answers" and await NATS.answers(place)

async def main():
    server = replace(NATS, answers=answers)
    async with shared(server, Path(sys.argv[1]), "signup-svc", None) as url:
        print(url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def written_to_nats(url: str) -> int:
    bus = NatsBus(url, name="test", ack_wait=2.0)
    await bus.start()
    try:
        await asyncio.wait_for(bus.wait_ready(), 20)
        await bus.publish(EncodedEvent(Envelope("1", "test", "acme.v1.Event"), b"x"))
        info = await bus._link.api("STREAM.INFO.EVENTS")
        return int(info["state"]["messages"])
    finally:
        await bus.close()


async def written_to_redis(url: str) -> int:
    async with Redis.from_url(url) as client:
        return int(await client.incr("written"))


async def written_to_postgres(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS written (what text)")
        await connection.execute("INSERT INTO written VALUES ('x')")
        row = await (await connection.execute("SELECT count(*) FROM written")).fetchone()
        return 0 if row is None else int(row[0])


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("nats", written_to_nats),
        ("redis", written_to_redis),
        ("postgres", written_to_postgres),
    ],
)
async def test_a_server_ends_with_the_block_and_its_data_stays(
    folder: Path, kind: str, written: Callable[[str], Awaitable[int]]
) -> None:
    for expected in (1, 2):
        async with shared(SERVERS[kind], folder, "billing-svc", None) as url:
            assert await written(url) == expected
        assert running(folder) == []
    assert (folder / kind / ".gitignore").read_text() == "*\n"


async def test_each_service_has_a_database_of_its_own(folder: Path) -> None:
    async with (
        shared(POSTGRES, folder, "billing-svc", None) as billing,
        shared(POSTGRES, folder, "signup-svc", None) as signup,
    ):
        assert await written_to_postgres(billing) == 1
        assert await written_to_postgres(signup) == 1


async def test_the_second_joins_and_the_last_ends_the_server(
    folder: Path, log_lines: LogLines
) -> None:
    first = shared(NATS, folder, "signup-svc", None)
    url = await first.__aenter__()
    async with shared(NATS, folder, "billing-svc", None) as joined:
        assert joined == url
        await first.__aexit__(None, None, None)
        assert await written_to_nats(joined) == 1
    assert running(folder) == []
    assert [line["event"] for line in log_lines() if "joined" in line or "NATS" in line["event"]][
        :3
    ] == [
        "starting NATS",
        "joined the NATS that signup-svc started",
        "left NATS to the others that use it",
    ]


async def test_two_that_start_at_once_use_one_server(folder: Path) -> None:
    async with (
        asyncio.timeout(PATIENCE_WITH_PROCESSES),
        asyncio.TaskGroup() as group,
    ):
        both = [shared(NATS, folder, service, None) for service in ("a-svc", "b-svc")]
        entered = [group.create_task(each.__aenter__()) for each in both]
    one, other = (task.result() for task in entered)
    assert one == other
    for each in both:
        await each.__aexit__(None, None, None)
    assert running(folder) == []


async def test_a_server_ends_although_its_last_user_was_killed(folder: Path) -> None:
    dev = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DEV, str(folder), "answers"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert dev.stdout is not None
        await asyncio.wait_for(dev.stdout.readuntil(b"nats://"), PATIENCE_WITH_PROCESSES)
        server, *_ = keeper(folder).children()
        assert server.is_running()
    finally:
        dev.kill()
        await dev.wait()
    await eventually(lambda: not running(folder), PATIENCE_WITH_PROCESSES)
    assert not server.is_running()


async def test_a_start_whose_process_was_killed_is_finished_by_the_next(folder: Path) -> None:
    dev = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DEV, str(folder), "never"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert dev.stdout is not None
        await asyncio.wait_for(dev.stdout.readuntil(b"asked"), PATIENCE_WITH_PROCESSES)
        with (folder / "nats/users").open("rb") as users:
            fcntl.flock(users, fcntl.LOCK_SH)  # as one that waits for its turn
            dev.kill()
            await dev.wait()
            kept = keeper(folder)
            async with shared(NATS, folder, "billing-svc", None) as url:
                fcntl.flock(users, fcntl.LOCK_UN)
                assert keeper(folder) == kept
                assert await written_to_nats(url) == 1
    finally:
        if dev.returncode is None:
            dev.kill()
            await dev.wait()
    assert running(folder) == []


async def test_a_server_ends_with_a_keeper_that_was_killed(folder: Path) -> None:
    async with shared(NATS, folder, "billing-svc", None):
        keeper(folder).kill()
        await eventually(lambda: not running(folder), PATIENCE_WITH_PROCESSES)


DOCKER = """\
#!/bin/sh
case "$1" in
  rm) echo "$3" >> {folder}/removed ;;
  run)
    for word; do case "$word" in 127.0.0.1:*:6379) port=${{word#*:}} ;; esac; done
    echo "requirepass $PASSWORD" | {redis} - --port ${{port%:*}} --dir {folder} ;;
esac
"""


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
async def test_a_container_serves_and_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, killed: bool
) -> None:
    """With a docker that runs the program instead of the image."""
    docker = folder / "docker"
    docker.write_text(DOCKER.format(folder=folder, redis=find("redis-server")))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    contained = replace(REDIS, programs={"no-such-server": ()})
    async with shared(contained, folder / "acme", "billing-svc", "redis:8") as url:
        assert await written_to_redis(url) == 1
        removed = folder / "removed"
        assert not removed.exists()
        if killed:
            keeper(folder).kill()
            await eventually(removed.exists, PATIENCE_WITH_PROCESSES)
    assert removed.read_text().startswith("dockyard-acme-")
    await eventually(lambda: not running(folder), PATIENCE_WITH_PROCESSES)


async def test_a_server_that_does_not_start_is_told_with_its_own_words(folder: Path) -> None:
    (folder / "postgres/data").mkdir(parents=True)
    with pytest.raises(ServerMissingError, match=r"(?s)ended at once.*server\.log.*data"):
        async with shared(POSTGRES, folder, "billing-svc", None):
            pytest.fail("there is no database in an empty folder")
    assert running(folder) == []


async def test_a_folder_that_cannot_be_made_is_told_with_the_remedy(folder: Path) -> None:
    (folder / "taken").write_text("")
    with pytest.raises(
        ServerMissingError, match=r"taken/nats \(Not a directory\): set XDG_STATE_H"
    ):
        async with shared(NATS, folder / "taken", "billing-svc", None):
            pytest.fail("there is no folder")


async def test_a_missing_program_is_told_with_the_remedy(folder: Path) -> None:
    missing = replace(NATS, programs={"no-such-server": ()})
    with pytest.raises(ServerMissingError, match=r"no-such-server not found.*install NATS"):
        async with shared(missing, folder, "billing-svc", None):
            pytest.fail("there is no program")
    async with shared(NATS, folder, "billing-svc", None) as url:
        assert url, "an attempt that failed is in nobody's way"

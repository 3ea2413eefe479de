"""Thousands of dead letters are listed, filtered and replayed; a kill interrupts the replay."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.repeats import Effects
from tests.chaos.world import victims
from tests.e2e.publishers import bare_publisher, publish_all, signed_up
from tests.e2e.replicas import Replica
from tests.waiting import until

PATIENCE = 180.0
BODY_BYTES = 16_000


@dataclass(frozen=True, slots=True)
class Letters:
    """The figures of a run."""

    reasons: Counter[str]
    """Of all dead letters, by `dlq list`."""
    chosen: int
    """By the filter that the replay was given too."""
    executions: Counter[str]
    effects: Effects
    left: Counter[str]
    grown_by_listing: int
    """Bytes that `dlq list` needs more, resident, than when it has nothing to show."""
    grown_by_replaying: int
    """Bytes that `dlq replay` needs more than when it has nothing to replay."""


def replay(
    bus: str, store: str, contracts: Path, folder: Path, *, oversize: int, broken: int, rate: int
) -> Letters:
    """Replay `oversize` and `broken` dead letters.

    A limit refuses the `oversize` events and is then raised; the `broken` ones never work.
    """
    with victims(bus, store, folder) as made:
        env = {
            "PYTHONPATH": str(contracts),
            "CHASSIS_PREFETCH": "100",
            "CHASSIS_PAUSE_FAILURE_RATIO": "0",
        }
        (strict,) = made.start_replicas(1, **env, CHASSIS_MAX_BODY_BYTES="1000")
        asyncio.run(_publish(made.bus_url, oversize, broken))
        died = 'messaging_client_consumed_messages_total{outcome="dead",type="%s"}'
        types = ("unknown", "acme.signup.v1.UserSignedUp")
        until(
            lambda: sum(strict.metric(died % type_) for type_ in types) == oversize + broken,
            "all dead",
            PATIENCE,
        )
        assert strict.terminate() == 0
        strict.server.kill()  # it has ended: only tidies up
        made.replicas.clear()
        (lenient,) = made.start_replicas(1, **env)
        none = ("--reason", "rejected")
        idle_list, _ = _measured(lenient, "dlq", "list", "--json", *none)
        idle_replay, _ = _measured(lenient, "dlq", "replay", *none)
        listing, listed = _measured(lenient, "dlq", "list", "--json")
        chosen = lenient.command("dlq", "replay", "--reason", "oversize", "--dry-run")
        again = ["dlq", "replay", "--reason", "oversize", "--rate", str(rate)]
        with lenient.running(*again) as killed:
            until(
                lambda: len(made.sink.handled()) >= oversize // 5, "a part being handled", PATIENCE
            )
            killed.kill()
        replaying, _ = _measured(lenient, *again)
        until(lambda: len(made.sink.handled()) == oversize, "all being handled", PATIENCE)
        until(lambda: lenient.metric("chassis_in_flight_messages") == 0, "nothing being in flight")
        return Letters(
            reasons=Counter(json.loads(line)["reason"] for line in listed.splitlines()),
            chosen=int(chosen.stdout.split()[-1]),
            executions=made.sink.executions(),
            effects=made.sink.effects(made.diary),
            left=Counter(letter["reason"] for letter in lenient.dead_letters()),
            grown_by_listing=listing - idle_list,
            grown_by_replaying=replaying - idle_replay,
        )


async def _publish(bus_url: str, oversize: int, broken: int) -> None:
    async with bare_publisher(bus_url) as publisher:
        # A field that nobody knows makes the body large: number 15, a string.
        padding = b"\x7a" + bytes([BODY_BYTES & 0x7F | 0x80, BODY_BYTES >> 7]) + bytes(BODY_BYTES)
        await publish_all(
            publisher, [(f"e-{number}", signed_up("u") + padding) for number in range(oversize)]
        )
        for number in range(broken):
            await publisher.publish_raw({}, b"%d" % number)


_MEASURE = """
import pathlib, resource, subprocess, sys
done = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL)
pathlib.Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(done.returncode)
"""
"""Runs a command from a small process: a command starts as large as its parent."""


def _measured(replica: Replica, *arguments: str) -> tuple[int, str]:
    """The largest resident size of a command in bytes, and its output."""
    size = replica.log.with_suffix(".size")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, size, *replica.program, *arguments],
        cwd=replica.folder,
        env={**os.environ, **replica.env},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return int(size.read_text()) * 1024, done.stdout

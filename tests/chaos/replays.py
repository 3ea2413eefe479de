"""`make chaos-replay`: dead letters are replayed while their cause remains; the replay is killed.

The command reaches the broker by a slow line. Each letter must be there in the end.
"""

import argparse
import asyncio
import dataclasses
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.brokers.cable import Cable
from tests.chaos.world import compiled_contracts, victims
from tests.e2e.publishers import bare_publisher, publish_all, signed_up
from tests.waiting import until

ROUND_TRIP_SECONDS = 0.1
PATIENCE = 1800.0
POISON = "poison"
"""The email of an event that the victim's handler refuses."""
_DIED = (
    'messaging_client_consumed_messages_total{outcome="dead",type="acme.signup.v1.UserSignedUp"}'
)


@dataclass(frozen=True, slots=True)
class Replays:
    """The figures of a run."""

    letters: int
    killed_after: list[int]
    """How many events had died a second time when each replay was killed."""
    deaths: int
    lost: list[str]
    double: list[str]
    """Events with more than one letter: a kill came between the copy and the removal."""
    seconds: float


def replay(
    bus: str, store: str, contracts: Path, folder: Path, *, letters: int, kills: int, seconds: float
) -> Replays:
    """Replay by the slow line for about `seconds`, `kills` times; then to the end, without it."""
    chance = random.Random(f"{bus} {store}")
    begun = time.monotonic()
    ids = {f"e-{number}" for number in range(letters)}
    with victims(bus, store, folder) as made:
        env = {
            "PYTHONPATH": str(contracts),
            "CHASSIS_MAX_ATTEMPTS": "1",
            "CHASSIS_PAUSE_FAILURE_RATIO": "0",
            "CHASSIS_PREFETCH": "100",
        }
        (replica,) = made.start_replicas(1, **env)
        asyncio.run(_publish(made.bus_url, sorted(ids)))
        until(lambda: replica.metric(_DIED) >= letters, "all dead", PATIENCE)
        with Cable(urlsplit(made.bus_url).port or 0, ROUND_TRIP_SECONDS / 2).laid() as slow:
            env = {**replica.env, "CHASSIS_BUS_URL": slow.through(made.bus_url)}
            far = dataclasses.replace(replica, env=env)
            killed_after = []
            for _ in range(kills):
                before = replica.metric(_DIED)
                with far.running("dlq", "replay", "--all") as command:
                    until(lambda at=before: replica.metric(_DIED) > at, "a second death", PATIENCE)  # type: ignore[misc] # mypy cannot infer a lambda with a default
                    time.sleep(seconds * (0.5 + chance.random()))
                    command.kill()
                killed_after.append(round(replica.metric(_DIED) - before))
        rest = round(replica.metric(_DIED))
        done = replica.command("dlq", "replay", "--all", timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        until(
            lambda: replica.metric(_DIED) >= rest + letters and made.idle(), "all at rest", PATIENCE
        )
        found = Counter(str(letter["event"]["user_id"]) for letter in replica.dead_letters())
        return Replays(
            letters=letters,
            killed_after=killed_after,
            deaths=round(replica.metric(_DIED)),
            lost=sorted(ids - found.keys()),
            double=sorted(id_ for id_, times in found.items() if times > 1),
            seconds=round(time.monotonic() - begun),
        )


async def _publish(bus_url: str, ids: list[str]) -> None:
    async with bare_publisher(bus_url) as publisher:
        await publish_all(publisher, [(id_, signed_up(id_, POISON)) for id_ in ids])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bus", choices=["rabbitmq", "nats"], required=True)
    parser.add_argument("--store", choices=["nats-kv", "redis", "postgres"], default="nats-kv")
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40, help="until a replay is killed")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="dockyard-replays-") as folder,
        tempfile.TemporaryDirectory(prefix="dockyard-contracts-") as contracts,
        compiled_contracts(Path(contracts)),
    ):
        report = replay(
            asked.bus,
            asked.store,
            Path(contracts),
            Path(folder),
            letters=asked.letters,
            kills=asked.kills,
            seconds=asked.seconds,
        )
    print(f"{asked.bus} {asked.store}: {report}")  # noqa: T201 - what the command is for
    return 1 if report.lost else 0


if __name__ == "__main__":
    sys.exit(main())

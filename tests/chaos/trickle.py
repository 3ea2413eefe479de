"""`make chaos-trickle`: a replica under 0.3 to 700 events a second, on a healthy NATS server.

Its connection must stay: a healthy one that is taken for lost costs a reconnect each time.
"""

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from tests.chaos.world import ONE_SERVER, compiled_contracts, victims
from tests.e2e.publishers import bare_publisher, signed_up
from tests.waiting import until

RATES = (0.3, 1, 3, 10, 30, 100, 300, 700)
PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Trickle:
    """The figures of a run; `lost` are the lines of the log that tell a lost connection."""

    events: int
    handled: int
    reconnects: int
    lost: list[str]


def trickle(contracts: Path, folder: Path, *, seconds: float) -> Trickle:
    """Publish at each rate for an equal part of `seconds`."""
    with victims(*ONE_SERVER, folder) as made:
        (replica,) = made.start_replicas(1, PYTHONPATH=str(contracts))
        events = asyncio.run(_publish(made.bus_url, seconds / len(RATES)))
        until(lambda: made.sink.executions().total() >= events, "every event handled", PATIENCE)
        log = replica.log.read_text().splitlines()
        return Trickle(
            events=events,
            handled=len(made.sink.handled()),
            reconnects=round(replica.metric("chassis_bus_reconnects_total")),
            lost=[line for line in log if "the broker" in line],
        )


async def _publish(bus_url: str, seconds: float) -> int:
    sent = 0
    async with bare_publisher(bus_url) as publisher:
        for rate in RATES:
            begun = monotonic()
            for number in range(max(1, round(rate * seconds))):
                await asyncio.sleep(begun + number / rate - monotonic())
                await publisher.publish(f"e-{sent}", signed_up(f"u-{sent}"))
                sent += 1
    return sent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="dockyard-trickle-") as folder,
        tempfile.TemporaryDirectory(prefix="dockyard-contracts-") as contracts,
        compiled_contracts(Path(contracts)),
    ):
        report = trickle(Path(contracts), Path(folder), seconds=asked.seconds)
    print(report)  # noqa: T201 - what the command is for
    return 0 if not report.reconnects and report.handled == report.events else 1


if __name__ == "__main__":
    sys.exit(main())

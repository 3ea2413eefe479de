"""The long form: `make chaos`. Prints one table; exits 1 when something was lost or repeated without cause."""

import argparse
import logging
import sys
import tempfile
from itertools import product
from math import ceil
from pathlib import Path

from tests.brokers.stores import STORES
from tests.chaos.play import Report, play
from tests.chaos.sink import EXTRAS, HANDLERS
from tests.e2e.rendering import render_service


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="events on each bus, shared by the stores")
    parser.add_argument("--faults", type=int, default=100, help="faults on each bus, shared by the stores")
    parser.add_argument("--seed", type=int, default=20261123, help="the same seed, the same faults in the same order")
    parser.add_argument("--bus", choices=["rabbitmq", "nats"], action="append", help="only this bus")
    parser.add_argument("--store", choices=sorted(STORES), action="append", help="only this store")
    options = parser.parse_args()
    stores = options.store or sorted(STORES)
    events, faults = ceil(options.events / len(stores)), ceil(options.faults / len(stores))
    for client in ("aiormq", "aio_pika", "nats"):
        logging.getLogger(client).setLevel(logging.CRITICAL)  # the publisher's, which finds no broker on purpose
    reports = []
    with tempfile.TemporaryDirectory(prefix="dockyard-chaos-") as folder:
        service = render_service(Path(folder), HANDLERS, extras=EXTRAS)
        for bus, store in product(options.bus or ["rabbitmq", "nats"], stores):
            place = Path(folder) / f"{bus}-{store}"
            place.mkdir()
            print(f"{bus}, {store}: {events:,} events, {faults} faults, seed {options.seed}", flush=True)
            reports.append(play(bus, store, service, place, events=events, faults=faults, seed=options.seed))
    _print(reports)
    return 0 if all(_holds(report) for report in reports) else 1


def _holds(report: Report) -> bool:
    effects = report.effects
    clean = not (
        report.lost
        or report.written_twice
        or effects.twice_at_a_keyed_sink
        or effects.unexplained
        or report.other_exits
    )
    return clean and report.unexplained_dead == 0


def _print(reports: list[Report]) -> None:
    rows = {
        "events (copies sent)": [f"{report.events} ({report.copies})" for report in reports],
        "faults": [str(sum(report.faults.values())) for report in reports],
        **{
            f"  {fault}": [str(report.faults.get(fault, 0)) for report in reports]
            for fault in sorted({fault for report in reports for fault in report.faults})
        },
        "lost": [str(len(report.lost)) for report in reports],
        "repeated after a kill": [
            str(len(report.effects.repeated) - len(report.effects.frozen) - len(report.effects.unexplained))
            for report in reports
        ],
        "repeated after a freeze": [str(len(report.effects.frozen)) for report in reports],
        "repeated otherwise": [str(len(report.effects.unexplained)) for report in reports],
        "twice at a keyed sink": [str(len(report.effects.twice_at_a_keyed_sink)) for report in reports],
        "twice in the database": [str(len(report.written_twice)) if report.written else "-" for report in reports],
        "dead letters (poison)": [f"{len(report.dead)} ({len(report.poison)})" for report in reports],
        "SIGTERM: exit 0, other": [f"{report.orderly_exits}, {report.other_exits}" for report in reports],
        "slowest recovery": [f"{report.slowest_recovery:.1f} s" for report in reports],
    }
    print(f"\n{'':26}" + "".join(f"{report.bus:>18}" for report in reports))
    print(f"{'':26}" + "".join(f"{report.store:>18}" for report in reports))
    for name, values in rows.items():
        print(f"{name:26}" + "".join(f"{value:>18}" for value in values))


if __name__ == "__main__":
    sys.exit(main())

"""The long form: `make chaos`. Prints one table; exits 1 after a loss or an unexplained repeat."""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from math import ceil, inf
from pathlib import Path

from tests.chaos.handlers import EXTRAS, HANDLERS
from tests.chaos.play import play
from tests.chaos.report import Report
from tests.chaos.world import ONE_SERVER, PAIRS
from tests.e2e.rendering import render_service
from tests.template import lab

ALL = [
    *((*pair, 1) for pair in (*PAIRS, ONE_SERVER)),
    ("rabbitmq", "nats-kv", 3),
    ("nats", "bus", 3),
]
"""Bus, store, and nodes of the bus."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events", type=int, default=20_000, help="events on each bus, shared by the stores"
    )
    parser.add_argument(
        "--faults", type=int, default=100, help="faults on each bus, shared by the stores"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=20261123,
        help="the same seed, the same faults in the same order",
    )
    parser.add_argument(
        "--bus", choices=["rabbitmq", "nats"], action="append", help="only this bus"
    )
    stores = sorted({store for _, store, _ in ALL})
    parser.add_argument(
        "--store",
        choices=stores,
        action="append",
        help="only this store; bus: the bus keeps the inbox too",
    )
    parser.add_argument(
        "--minutes", type=float, default=inf, help="no fault begins after so many, on each bus"
    )
    parser.add_argument(
        "--nodes", type=int, choices=[1, 3], action="append", help="only a bus of so many nodes"
    )
    options = parser.parse_args()
    worlds = [
        (bus, store, nodes)
        for bus, store, nodes in ALL
        if bus in (options.bus or [bus])
        and store in (options.store or [store])
        and nodes in (options.nodes or [nodes])
    ]
    for client in ("aiormq", "aio_pika", "nats"):
        logging.getLogger(client).setLevel(
            logging.CRITICAL
        )  # the publisher's, which finds no broker on purpose
    reports = []
    with tempfile.TemporaryDirectory(prefix="dockyard-chaos-") as folder:
        template = Path(folder, "template")
        lab.lay_down_template(template)
        lab.commit_all(template, "the template of the working tree")
        service = render_service(template, Path(folder), HANDLERS, extras=EXTRAS)
        for bus, store, nodes in worlds:
            place = Path(folder) / f"{bus}-{store}-{nodes}"
            place.mkdir()
            sharing = sum((bus, nodes) == (other, size) for other, _, size in worlds)
            events, faults = ceil(options.events / sharing), ceil(options.faults / sharing)
            print(
                f"{bus}, {store}, {nodes} nodes: "
                f"{events:,} events, {faults} faults, seed {options.seed}",
                flush=True,
            )
            report = play(
                bus,
                store,
                service,
                place,
                events=events,
                faults=faults,
                seed=options.seed,
                nodes=nodes,
                minutes=options.minutes,
            )
            reports.append(report)
    _print(reports)
    return 1 if any(report.broken for report in reports) else 0


def _print(reports: list[Report]) -> None:
    rows = {
        "events (copies sent)": [
            f"{len(report.good | report.poison)} ({report.copies})" for report in reports
        ],
        "faults": [str(sum(report.faults.values())) for report in reports],
        **{
            f"  {fault}": [str(report.faults.get(fault, 0)) for report in reports]
            for fault in sorted({fault for report in reports for fault in report.faults})
        },
        "lost": [str(len(report.lost)) for report in reports],
        "repeated after a kill": [str(len(report.effects.after_a_kill)) for report in reports],
        "  most after one kill": [str(report.effects.most_after_one_kill) for report in reports],
        "  longest until the kill": [
            f"{report.effects.longest_to_a_kill:.2f} s" for report in reports
        ],
        "repeated after a freeze": [str(len(report.effects.after_a_freeze)) for report in reports],
        "  after a standstill": [str(len(report.effects.after_a_standstill)) for report in reports],
        "repeated otherwise": [str(len(report.effects.unexplained)) for report in reports],
        "twice at a keyed sink": [
            str(len(report.effects.twice_at_a_keyed_sink)) for report in reports
        ],
        "twice in the database": [
            "-" if report.written is None else str(len(report.written_twice)) for report in reports
        ],
        "outgoing events lost": [str(len(report.outgoing_lost)) for report in reports],
        "  under more than one id": [str(len(report.outgoing_twice)) for report in reports],
        "out of turn for their key": [str(len(report.out_of_turn)) for report in reports],
        "dead letters (poison)": [
            f"{len(report.dead)} ({len(report.poison)})" for report in reports
        ],
        "  unexplained": [str(len(report.unexplained_dead)) for report in reports],
        "SIGTERM: exit 0, other": [
            f"{report.orderly_exits}, {report.other_exits}" for report in reports
        ],
        "slowest recovery": [f"{report.slowest_recovery:.1f} s" for report in reports],
        "event after a leader: median": [_seconds(report.first_events, 0.5) for report in reports],
        "  slowest": [_seconds(report.first_events, 1.0) for report in reports],
    }
    print(f"\n{'':26}" + "".join(f"{report.bus:>18}" for report in reports))
    print(f"{'':26}" + "".join(f"{report.store:>18}" for report in reports))
    for name, values in rows.items():
        print(f"{name:26}" + "".join(f"{value:>18}" for value in values))
    for report in reports:
        for promise, by in report.broken.items():
            print(f"{report.bus}, {report.store}: {promise}:", *by[:20], sep="\n  ")


def _seconds(times: Sequence[float], part: float) -> str:
    """The time that this part of the sorted `times` does not exceed."""
    return f"{times[ceil(part * len(times)) - 1]:.1f} s" if times else "-"


if __name__ == "__main__":
    sys.exit(main())

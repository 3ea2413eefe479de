"""One run: events under load, faults in between, and the report of what became of every event."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic

from tests.chaos import cluster_faults, table
from tests.chaos.faults import WEIGHTS, chosen, inject
from tests.chaos.load import publish_until_confirmed
from tests.chaos.repeats import out_of_turn
from tests.chaos.report import Report
from tests.chaos.world import World, world
from tests.e2e.publishers import signed_up
from tests.waiting import happens

REPLICAS = 2
BACKLOG = 400
"""Events that wait at most: the load goes on for as long as the faults do."""
PATIENCE = 300.0


def play(
    bus: str,
    store: str,
    service: Path,
    folder: Path,
    *,
    events: int,
    faults: int,
    seed: int,
    nodes: int = 1,
    minutes: float = inf,
) -> Report:
    """Publish `events` and inject `faults`, both by chance from `seed`, until each event has ended.

    No fault begins after `minutes`. An event without an end when patience is over is lost. Each
    pair of bus and store has its own faults, and so has a cluster of `nodes`.
    """
    chance = random.Random(f"{seed} {bus} {store}")
    with world(bus, service, folder, store=store, nodes=nodes) as made:
        if store == "postgres":
            table.create(made.store_url)
        made.start_replicas(REPLICAS)
        ids = [f"e-{number}" for number in range(events)]
        odd = chance.sample(ids, 2 * max(1, events // 200))
        poison, slow = set(odd[::2]), set(odd[1::2])
        kinds = dict.fromkeys(poison, "poison") | dict.fromkeys(slow, "slow")
        storm = partial(_storm, made, faults, monotonic() + 60 * minutes)
        copies = asyncio.run(_load(made, ids, kinds, faults, storm, chance))
        good = set(ids) - poison
        at_rest = happens(lambda: _at_rest(made, good), PATIENCE)
        return Report(
            bus=bus if nodes == 1 else f"{nodes} x {bus}",
            store=store,
            seed=seed,
            copies=copies,
            faults=dict(made.faults),
            not_recovered=made.not_recovered,
            at_rest=at_rest,
            good=good,
            poison=poison,
            effects=made.sink.effects(made.diary),
            published=made.sink.published(),
            out_of_turn=out_of_turn(made.sink.turns(), made.diary),
            written=table.written(made.store_url) if store == "postgres" else None,
            dead=made.replicas[0].dead_letters(),
            orderly_exits=made.exits[0],
            other_exits=made.exits.total() - made.exits[0],
            slowest_recovery=max(made.recoveries, default=0.0),
            first_events=sorted(made.first_events),
        )


def _at_rest(made: World, good: set[str]) -> bool:
    """Whether the run is over: late repeats have happened, and broken events are dead letters."""
    return made.sink.handled() >= good and made.sink.published().keys() >= good and made.idle()


async def _load(
    made: World,
    ids: Sequence[str],
    kinds: Mapping[str, str],
    faults: int,
    inject_all: Callable[[random.Random], None],
    chance: random.Random,
) -> int:
    """Publish while the faults happen, and again if a confirm fails. Returns the copies sent."""
    storm = asyncio.create_task(asyncio.to_thread(inject_all, random.Random(chance.random())))
    waiting = list(ids)
    chance.shuffle(waiting)
    pace = max(1, len(ids) // max(1, faults))
    copies = 0
    while waiting or not storm.done():
        if storm.done() and storm.exception() is not None:
            break
        batch, waiting = waiting[:50], waiting[50:]
        if not batch:
            await asyncio.sleep(0.2)
            continue
        copies += await _publish(made, batch, kinds, chance)
        published = len(ids) - len(waiting)
        while not storm.done() and (
            published - len(made.sink.handled()) > BACKLOG
            or published > pace * (1 + made.faults.total())
        ):
            await asyncio.sleep(0.1)
    await storm
    return copies


async def _publish(
    made: World, batch: Sequence[str], kinds: Mapping[str, str], chance: random.Random
) -> int:
    """Publish all until confirmed: some twice, in no order. Returns the copies sent."""
    copies = list(batch) + [id_ for id_ in batch if chance.random() < 0.1]
    chance.shuffle(copies)
    await publish_until_confirmed(
        made.bus_url, [(id_, signed_up(id_, kinds.get(id_, ""))) for id_ in copies]
    )
    return len(copies)


def _storm(made: World, faults: int, end: float, chance: random.Random) -> None:
    weights = cluster_faults.weights(made) if made.cluster else WEIGHTS
    for fault in chosen(faults, chance, weights):
        if monotonic() > end:
            return
        inject(made, fault, chance)

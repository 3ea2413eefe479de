"""One run: events under load, faults in between, and the report of what became of every event."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import table
from tests.chaos.load import publish_until_confirmed
from tests.chaos.sink import Effects
from tests.chaos.world import World, world
from tests.e2e.publishers import signed_up
from tests.e2e.replicas import eventually

REPLICAS = 2
BACKLOG = 400
"""Events that wait at most: the load goes on for as long as the faults do."""
PATIENCE = 180.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a run was and what became of it."""

    bus: str
    store: str
    seed: int
    events: int
    copies: int
    faults: dict[str, int]
    lost: list[str]
    effects: Effects
    written: Counter[str]
    """How often handlers wrote each event into their own table, where the store has one."""
    dead: list[dict[str, str]]
    poison: set[str]
    orderly_exits: int
    other_exits: int
    slowest_recovery: float

    @property
    def written_twice(self) -> list[str]:
        return sorted(event for event, times in self.written.items() if times > 1)

    @property
    def unexplained_dead(self) -> int:
        """Dead letters beside those that had to be, one for each poisonous event."""
        return len(self.dead) - len(self.poison)


def play(bus: str, store: str, service: Path, folder: Path, *, events: int, faults: int, seed: int) -> Report:
    """Publish `events` and inject `faults`, both by chance from `seed`, until every event has met its end."""
    chance = random.Random(seed)
    with world(bus, service, folder, store=store) as made:
        if store == "postgres":
            table.create(made.store_url)
        made.start_replicas(REPLICAS)
        ids = [f"e-{number}" for number in range(events)]
        odd = chance.sample(ids, 2 * max(1, events // 200))
        poison, slow = set(odd[::2]), set(odd[1::2])
        kinds = dict.fromkeys(poison, "poison") | dict.fromkeys(slow, "slow")
        copies = asyncio.run(_load(made, ids, kinds, faults, chance))
        good = set(ids) - poison
        eventually(lambda: made.sink.handled() >= good, "every event being handled", PATIENCE)
        if store == "postgres":
            eventually(lambda: table.written(made.store_url).keys() >= good, "every event being written", PATIENCE)
        toolbox = made.replicas[0]
        eventually(lambda: len(toolbox.dead_letters()) >= len(poison), "the poison being dead letters", PATIENCE)
        effects = made.sink.effects(made.killed, made.frozen)
        written = table.written(made.store_url) if store == "postgres" else Counter[str]()
        return Report(
            bus=bus,
            store=store,
            seed=seed,
            events=events,
            copies=copies,
            faults=dict(made.faults),
            lost=sorted(good - effects.handled),
            effects=effects,
            written=written,
            dead=toolbox.dead_letters(),
            poison=poison,
            orderly_exits=made.exits[0],
            other_exits=made.exits.total() - made.exits[0],
            slowest_recovery=max(made.recoveries, default=0.0),
        )


async def _load(made: World, ids: Sequence[str], kinds: Mapping[str, str], faults: int, chance: random.Random) -> int:
    """Publish while the faults happen; an event whose confirm fails is published again. Returns the copies sent."""
    storm = asyncio.create_task(asyncio.to_thread(_storm, made, faults, random.Random(chance.random())))
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
            published - len(made.sink.handled()) > BACKLOG or published > pace * (1 + made.faults.total())
        ):
            await asyncio.sleep(0.1)
    await storm
    return copies


async def _publish(made: World, batch: Sequence[str], kinds: Mapping[str, str], chance: random.Random) -> int:
    """Each event at least once, some twice, in no order, until all are confirmed. Returns the copies sent."""
    copies = list(batch) + [id_ for id_ in batch if chance.random() < 0.1]
    chance.shuffle(copies)
    await publish_until_confirmed(made.bus_url, [(id_, signed_up(id_, kinds.get(id_, ""))) for id_ in copies])
    return len(copies)


def _storm(made: World, faults: int, chance: random.Random) -> None:
    for _ in range(faults):
        made.inject(chance)

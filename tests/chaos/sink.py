"""The world outside: records every effect, and can tell afterwards which of them were repeats, and why."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

HANDLERS = '''"""The handler under test: an effect that somebody outside counts."""

import asyncio
import os
import random
import sqlite3

from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from chassis import Context, Service

service = Service("billing-svc")
sink = sqlite3.connect(os.environ.get("CHAOS_SINK", ":memory:"), isolation_level=None, timeout=60)


@service.on(UserSignedUp)
async def handle_signup(event: UserSignedUp, ctx: Context) -> None:
    if event.email == "poison":
        raise ValueError("poison")
    if event.email == "slow" and ctx.attempt == 1:
        await asyncio.sleep(60)  # until the handler timeout ends it
    await asyncio.sleep(random.random() * 0.02)
    sink.execute("INSERT INTO effects VALUES (?, ?, ?)", (ctx.event_id, ctx.idempotency_key, os.getpid()))
    await asyncio.sleep(random.random() * 0.02)


if os.environ.get("CHASSIS_INBOX_URL", "").startswith("postgresql"):

    @service.on(UserSignedUp)
    async def keep_signup(event: UserSignedUp, ctx: Context) -> None:
        connection = await ctx.transaction()
        await connection.execute("INSERT INTO effects VALUES (%s)", (ctx.event_id,))
        await asyncio.sleep(random.random() * 0.02)
'''


EXTRAS = "rabbitmq,nats,redis,postgres"
"""Of the chassis: every broker and store that chaos knows."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What was found at the end, each a set or list of event ids."""

    handled: AbstractSet[str]
    repeated: list[str]
    """One entry for each execution beyond an event's first."""
    frozen: list[str]
    """Those of them whose process before was frozen for longer than its lease, and not killed."""
    unexplained: list[str]
    """Those of them whose process before was neither killed nor frozen."""
    twice_at_a_keyed_sink: list[str]
    """Events with effects under more than one idempotency key."""


class Sink:
    """A table that all replicas write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as table:
            table.execute("PRAGMA journal_mode=WAL")
            table.execute("CREATE TABLE effects (event_id TEXT, key TEXT, pid INTEGER)")
            table.execute("CREATE TABLE published (cause TEXT, event_id TEXT)")

    def handled(self) -> set[str]:
        with closing(sqlite3.connect(self.path, timeout=60)) as table:
            return {row[0] for row in table.execute("SELECT DISTINCT event_id FROM effects")}

    def published(self) -> list[tuple[str, str]]:
        """For each handling of an event that was published: whose effect it was, and its id."""
        with closing(sqlite3.connect(self.path, timeout=60)) as table:
            return table.execute("SELECT cause, event_id FROM published ORDER BY rowid").fetchall()

    def executions(self) -> Counter[str]:
        """How often each event had its effect."""
        with closing(sqlite3.connect(self.path, timeout=60)) as table:
            return Counter(dict(table.execute("SELECT event_id, COUNT(*) FROM effects GROUP BY event_id").fetchall()))

    def effects(self, killed: AbstractSet[int], frozen: AbstractSet[int] = frozenset()) -> Effects:
        """`killed` are the processes that were given no time to complete, `frozen` those that slept too long."""
        executions: dict[str, list[int]] = defaultdict(list)
        keys: dict[str, set[str]] = defaultdict(set)
        with closing(sqlite3.connect(self.path, timeout=60)) as table:
            for event, key, pid in table.execute("SELECT event_id, key, pid FROM effects ORDER BY rowid"):
                executions[event].append(pid)
                keys[event].add(key)
        repeats = [(event, before) for event, pids in executions.items() for before in pids[:-1]]
        alive = [(event, before) for event, before in repeats if before not in killed]
        return Effects(
            handled=executions.keys(),
            repeated=[event for event, _ in repeats],
            frozen=[event for event, before in alive if before in frozen],
            unexplained=[event for event, before in alive if before not in frozen],
            twice_at_a_keyed_sink=[event for event, seen in keys.items() if len(seen) > 1],
        )

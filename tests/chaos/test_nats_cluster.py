"""Three NATS nodes lose their leader, and two of three; `make chaos-cluster` does more."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic

import pytest
from nats import connect as connect_bare
from nats.errors import Error as NatsError

from chassis.bus import BusUnavailable, Delivery, Subscription
from chassis.bus.nats import NatsBus
from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.inbox import InboxUnavailable, Lease, Refusal
from chassis.inbox.nats_kv import NatsKvInbox
from tests.brokers.nats import Nats, nats_cluster

SERVICE = "billing-svc"
TYPE = "acme.signup.v1.UserSignedUp"
LEASE_SECONDS = 60
FAULTS = ("kill the leader", "kill two of three")
PAUSE_SECONDS = 0.02
PATIENCE = 180.0

_log = logging.getLogger(__name__)


@dataclass
class Cluster:
    """Three nodes, two replicas that claim before they act, and a publisher."""

    nodes: dict[str, Nats]
    url: str
    effects: Counter[str] = field(default_factory=Counter)
    confirmed: list[str] = field(default_factory=list)

    async def leader(self) -> str:
        """The node that leads EVENTS, as soon as there is one."""
        while True:
            with suppress(NatsError, OSError):
                async with await connect_bare(self.url.split(","), connect_timeout=2) as client:
                    group = (await client.jetstream().stream_info("EVENTS")).cluster
                    if group and group.leader and len(group.replicas or []) == 2:
                        return group.leader
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[None]:
        inbox = NatsKvInbox(
            self.url, lease_seconds=LEASE_SECONDS, retention_seconds=3600, replicas=3
        )

        async def handle(delivery: Delivery) -> None:
            id_ = delivery.envelope().id
            try:
                lease = await inbox.claim(id_, "digest")
            except InboxUnavailable:
                await delivery.later(0.5, counted=False)
                return
            if isinstance(lease, Lease):
                self.effects[id_] += 1
                await _until_done(partial(inbox.complete, lease))
            elif lease.refusal is not Refusal.DUPLICATE:
                await delivery.later(0.5, counted=False)
                return
            delivery.done()

        bus = NatsBus(self.url, name=SERVICE, ack_wait=5, replicas=3)
        bus.subscribe(Subscription(SERVICE, frozenset({TYPE})), handle)
        try:
            with suppress(InboxUnavailable):
                await inbox.open()
            await bus.start()
            await bus.wait_ready()
            yield
        finally:
            await bus.close()
            await inbox.close()

    async def load(self) -> None:
        """Publish until cancelled; each event until it is confirmed."""
        bus = NatsBus(self.url, name="publisher", ack_wait=5, replicas=3)
        await bus.start()
        try:
            for number in count():
                id_ = f"e-{number}"
                event = EncodedEvent(Envelope(id_, "chaos", TYPE), b"x")
                await _until_done(partial(bus.publish, event))
                self.confirmed.append(id_)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await bus.close()

    async def inject(self, fault: str, chance: Random) -> float:
        """Seconds from the fault until the next event was handled; nodes are whole afterwards."""
        leader = await self.leader()
        others = sorted(set(self.nodes) - {leader})
        chance.shuffle(others)
        struck = monotonic()
        killed = [leader] if fault == "kill the leader" else [leader, others[0]]
        for name in killed:
            await asyncio.to_thread(self.nodes[name].server.kill)
        handled = len(self.effects)
        if len(killed) == 1:
            await self.next_event(handled)
        for name in killed:
            await asyncio.to_thread(self.nodes[name].server.start)
        await self.next_event(handled)
        return monotonic() - struck

    async def next_event(self, handled: int) -> None:
        while len(self.effects) <= handled:
            await asyncio.sleep(0.02)


async def _until_done(action: Callable[[], Awaitable[None]]) -> None:
    while True:
        with suppress(BusUnavailable, InboxUnavailable):
            await action()
            return
        await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_no_event_is_lost_and_none_handled_twice(tmp_path: Path) -> None:
    chance = Random(20261130)
    with nats_cluster(tmp_path) as nodes:
        cluster = Cluster(
            {f"n{number}": node for number, node in enumerate(nodes)},
            ",".join(node.url for node in nodes),
        )
        async with cluster.replica(), cluster.replica():
            loading = asyncio.create_task(cluster.load())
            await cluster.next_event(0)
            for fault in FAULTS:
                async with asyncio.timeout(PATIENCE):
                    seconds = await cluster.inject(fault, chance)
                _log.info("%s: the next event after %.1f s", fault, seconds)
            loading.cancel()
            await asyncio.wait([loading])
            async with asyncio.timeout(PATIENCE):
                while not set(cluster.confirmed) <= cluster.effects.keys():
                    await asyncio.sleep(0.05)
        _log.info("%d events, %d faults", len(cluster.confirmed), len(FAULTS))
        assert {id_: times for id_, times in cluster.effects.items() if times > 1} == {}

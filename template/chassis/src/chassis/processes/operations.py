"""What an operator does with processes: find, look at, push on, give up.

Works beside the replicas, by compare-and-set. Knows the ports, no store, no terminal.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chassis.contracts.envelope import EncodedEvent
from chassis.processes.store import (
    Address,
    Conflict,
    ProcessStore,
    Record,
    Status,
    Unreadable,
    decoded,
)
from chassis.processes.wakeups import to_wakeup_event, wakeups_of

TRIES = 20

Publish = Callable[[EncodedEvent], Awaitable[None]]


class NotFound(Exception):
    """No process fits, or it has ended; the message says which."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which processes; None means any. `older_than`: idle for longer."""

    process: str | None = None
    status: Status | None = "active"
    older_than: timedelta | None = None

    def fits(self, record: Record, now: datetime) -> bool:
        return (
            self.process in {None, record.address.process}
            and self.status in {None, record.status}
            and (self.older_than is None or now - record.idle_since > self.older_than)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Processes that fit, the longest idle first, and the ids of records that cannot be read."""

    records: list[Record]
    unreadable: list[str]


async def select(store: ProcessStore, which: Filter, now: datetime) -> Found:
    """Look through all processes. Raises InboxUnavailable."""
    records: dict[str, Record] = {}
    unreadable: list[str] = []
    async for stored in store.records():
        try:
            record = decoded(stored.body)
        except Unreadable:
            unreadable.append(stored.id)
            continue
        if which.fits(record, now):
            records[stored.id] = record
    return Found(sorted(records.values(), key=lambda record: record.idle_since), unreadable)


async def find(store: ProcessStore, processes: Iterable[str], key: str) -> list[Record]:
    """The processes with this `key`. Raises Unreadable, InboxUnavailable."""
    loaded = [await store.load(Address(process, key)) for process in processes]
    return [decoded(stored.body) for stored in loaded if stored is not None]


async def poke(
    store: ProcessStore, at: Address, service: str, publish: Publish, now: datetime
) -> int:
    """Publish again what a process still has to, and its wake-ups that are overdue.

    All go out under the ids that they have, so what has arrived is ignored. Returns how many.
    Raises NotFound, BusUnavailable, InboxUnavailable.
    """
    stored = await store.load(at)
    if stored is None:
        raise NotFound(f"there is no process {at.process} with the key {at.key!r}")
    record = decoded(stored.body)
    overdue = [wakeup for wakeup in wakeups_of(record) if wakeup.due <= now]
    events = [pending.event for pending in record.outgoing]
    events += [to_wakeup_event(wakeup, service) for wakeup in overdue]
    for event in events:
        await publish(event)
    if record.outgoing:
        await _change(store, at, lambda now_there: _without(now_there, record))
    return len(events)


async def abandon(store: ProcessStore, at: Address, reason: str, now: datetime) -> None:
    """End an active process for `reason`: events for it do nothing from now on.

    Nothing is undone by this. Raises NotFound, Conflict, InboxUnavailable.
    """

    def over(record: Record) -> Record:
        if record.status != "active":
            raise NotFound(
                f"process {at.process} with the key {at.key!r} is {record.status} already"
            )
        return replace(record, status="abandoned", reason=reason, changed=now, wakes={})

    await _change(store, at, over)


async def _change(store: ProcessStore, at: Address, change: Callable[[Record], Record]) -> None:
    for _ in range(TRIES):
        stored = await store.load(at)
        if stored is None:
            raise NotFound(f"there is no process {at.process} with the key {at.key!r}")
        try:
            await store.save(change(decoded(stored.body)), stored.revision)
        except Conflict:
            continue
        return
    raise Conflict(at.id)


def _without(record: Record, published: Record) -> Record:
    left = tuple(each for each in record.outgoing if each not in published.outgoing)
    return replace(record, outgoing=left)

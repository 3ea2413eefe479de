"""Takes an event through a step of a process: load, handle, save, and publish.

In a store with transactions, the record is locked and written in the handling's own transaction.
Elsewhere it is written by compare-and-set, before anything is published, and the step starts again
from what is stored if another replica was faster. Knows the port of the stores, no store.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from random import random
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError, Message

from chassis.backoff import backoff
from chassis.context import Context
from chassis.contracts.envelope import EncodedEvent
from chassis.contracts.event_types import event_type
from chassis.processes.context import ProcessContext
from chassis.processes.definition import Handler, Process, Step
from chassis.processes.store import (
    REMEMBERED,
    Address,
    Conflict,
    Pending,
    ProcessStore,
    Record,
    Stored,
    Unreadable,
    Wake,
    decoded,
)
from chassis.processes.wakeups import WakeUp, from_body, to_wakeup_event, wakeups_of
from chassis.retry import Doomed, NoSuchProcess, NotYet, not_before
from chassis.telemetry.processes import Counts, ProcessMetrics

if TYPE_CHECKING:
    from psycopg import AsyncConnection

CONFLICT_SECONDS = (0.01, 0.25)
"""Before a step starts again after a conflict. The first wait is doubled, up to the second."""
TRIES = 10
"""Conflicts in a row after which the event goes back to the broker for a moment."""
LINE_SECONDS = 1.0
"""How long an event waits for an earlier one of its process in this replica."""


class Runner:
    """`check` raises if an event is too large to publish. `now` and `random` are for tests."""

    def __init__(
        self,
        store: ProcessStore,
        service: str,
        metrics: ProcessMetrics,
        check: Callable[[Sequence[EncodedEvent]], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        random: Callable[[], float] = random,
    ) -> None:
        self._store = store
        self._service = service
        self._metrics = metrics
        self._check = check
        self._now = now
        self._random = random
        self._lines = _Lines()

    async def take(self, step: Step, event: Message, context: Context) -> None:
        """One event to its end, in the order in which the events of a process came."""
        at = Address(step.process.name, step.key_of(event))
        await self._in_line(step, event, context, at)

    async def wake(
        self, processes: Mapping[str, Process[Any]], event: Message, context: Context
    ) -> None:
        """As `take`, for the event of a wake-up of one of `processes`."""
        try:
            wakeup = from_body(event)
        except ValueError as error:
            raise Doomed("undecodable", str(error)) from error
        not_before(wakeup.due, self._now())
        process = processes.get(wakeup.at.process)
        step = None if process is None else process.wakers.get(wakeup.name)
        if step is None:
            raise Doomed(
                "no_such_process",
                f"this release has no process {wakeup.at.process} with wakes({wakeup.name!r})",
            )
        await self._in_line(step, wakeup, context, wakeup.at)

    async def _in_line(
        self, step: Step, event: Message | WakeUp, context: Context, at: Address
    ) -> None:
        async with self._lines.turn(at.id) as come:
            if not come:
                raise NotYet(self._jitter(TRIES))
            within = await context.transaction() if self._store.transactional else None
            one = _Handling(step, event, context, at, within, self._metrics.of(at.process))
            await self._until_saved(one)

    async def _until_saved(self, one: "_Handling") -> None:
        for tries in range(1, TRIES + 1):
            try:
                return await self._once(one)
            except Conflict:
                one.counts.conflict.inc()
                if one.within is not None:
                    break  # only a new transaction sees what the other one has written
            one.context.take_back()
            await asyncio.sleep(self._jitter(tries))
        raise NotYet(self._jitter(TRIES))

    async def _once(self, one: "_Handling") -> None:
        stored = await self._store.load(one.at, one.within)
        record = None if stored is None else _readable(stored, one.step.process)
        if record is not None and one.context.idempotency_key in record.steps:
            one.counts.repeated.inc()
            one.context.take_back(record.pending(one.name))
            one.context.after_publishing = partial(self._published, one.at, one.name)
            return
        handler = _handler(one, record)
        if handler is None:
            return
        state = one.step.process.state()
        if record is not None:
            state.ParseFromString(record.state)
        context = ProcessContext(one.context, one.at.key, one.step.process.wakers, self._now())
        await handler(state, one.event, context)
        after = self._advanced(one, record, state, context)
        if record is None or _differs(record, after):
            await self._store.save(after, 0 if stored is None else stored.revision, one.within)
        (one.counts.started if record is None else one.counts.advanced).inc()
        if context.completed:
            one.counts.completed.inc()
        if after.outgoing and one.within is None:
            one.context.after_publishing = partial(self._published, one.at, one.name)

    def _advanced(
        self, one: "_Handling", record: Record | None, state: Message, context: ProcessContext
    ) -> Record:
        """The record after a step. Raises Doomed if the state is too large."""
        process, now = one.step.process, self._now()
        body = state.SerializeToString(deterministic=True)
        if len(body) > process.max_bytes:
            raise Doomed(
                "oversize",
                f"the state of process {process.name} has {len(body)} bytes, at most "
                f"{process.max_bytes} allowed (max_bytes= of service.process): keep a reference "
                "to the data instead",
            )
        before = record or Record(
            one.at, one.name, "active", event_type(state), b"", now, now, one.step.type
        )
        atomic = one.within is not None
        number, wakes = self._wakes(one, before, context)
        after = replace(before, number=number, wakes=wakes)
        context.add(
            to_wakeup_event(wakeup, self._service)
            for wakeup in wakeups_of(after)
            if wakeup.number > before.number
        )
        self._check(context.outgoing)
        return replace(
            after,
            status="completed" if context.completed else "active",
            state=body,
            changed=now,
            last_event=one.step.type,
            steps=() if atomic else (*before.steps, one.name)[-REMEMBERED:],
            outgoing=()
            if atomic
            else (*before.outgoing, *(Pending(one.name, each) for each in context.outgoing)),
        )

    @staticmethod
    def _wakes(
        one: "_Handling", before: Record, context: ProcessContext
    ) -> tuple[int, Mapping[str, Wake]]:
        """The number of the last wish, and the wake-ups that are waited for after a step."""
        number, wakes = before.number, dict(before.wakes)
        if isinstance(one.event, WakeUp):
            del wakes[one.event.name]
        if context.completed:
            return number, {}
        for name, due in context.wishes.items():
            number += 1
            wakes[name] = Wake(number, due)
        return number, wakes

    async def _published(self, at: Address, step: str) -> None:
        """Forget what `step` had to publish.

        If that keeps failing, its events stay in the record: nothing publishes them but a `poke`,
        and then under the same ids.
        """
        async with self._lines.turn(at.id):  # behind a step that waits, not in conflict with it
            for tries in range(1, TRIES + 1):
                stored = await self._store.load(at)
                record = None if stored is None else decoded(stored.body)
                if stored is None or record is None or not record.pending(step):
                    break
                left = tuple(pending for pending in record.outgoing if pending.step != step)
                try:
                    await self._store.save(replace(record, outgoing=left), stored.revision)
                    break
                except Conflict:
                    await asyncio.sleep(self._jitter(tries))

    def _jitter(self, tries: int) -> float:
        return backoff(tries, *CONFLICT_SECONDS, self._random, least=0.5)


@dataclass(frozen=True, slots=True)
class _Handling:
    """An event at a step of the process `at`; `within` is the handling's transaction, if any."""

    step: Step
    event: Message | WakeUp
    context: Context
    at: Address
    within: "AsyncConnection[tuple[Any, ...]] | None"
    counts: Counts

    @property
    def name(self) -> str:
        """What the record remembers this step by."""
        return self.context.idempotency_key


@dataclass(slots=True)
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class _Lines:
    """One event of a process at a time in this replica: it would only conflict with itself."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, id_: str) -> AsyncIterator[bool]:
        """False if the turn has not come after LINE_SECONDS."""
        line = self._lines.setdefault(id_, _Line())
        line.waiting += 1
        try:
            if not await _acquired(line.lock):
                yield False
                return
            try:
                yield True
            finally:
                line.lock.release()
        finally:
            line.waiting -= 1
            if not line.waiting:
                del self._lines[id_]


async def _acquired(lock: asyncio.Lock) -> bool:
    if not lock.locked():
        return await lock.acquire()
    try:
        async with asyncio.timeout(LINE_SECONDS):
            return await lock.acquire()
    except TimeoutError:
        return False


def _handler(one: _Handling, record: Record | None) -> Handler[Any, Any] | None:
    """What handles the event; None if nothing has to. Raises NoSuchProcess, Doomed."""
    step, counts = one.step, one.counts
    if isinstance(one.event, WakeUp) and not one.event.wanted_by(record):
        counts.late_wake.inc()
        return None
    if record is not None and record.status != "active":
        counts.over.inc()
        return None
    if record is not None:
        if step.goes_on is None:
            counts.already_started.inc()
        return step.goes_on
    if step.starts is not None:
        return step.starts
    counts.missing.inc()
    if step.missing == "ignore":
        return None
    why = f"process {step.process.name} has not started for the key of this {step.type}"
    if step.missing == "dead":
        raise Doomed("no_such_process", why)
    raise NoSuchProcess(why)


def _readable(stored: Stored, process: Process[Any]) -> Record:
    """The record, if its state is one of `process`. Raises Doomed."""
    try:
        record = decoded(stored.body)
    except Unreadable as error:
        raise Doomed("bad_state", f"process {process.name}: {error}") from error
    wanted = event_type(process.state)
    if record.state_type != wanted:
        raise Doomed(
            "bad_state",
            f"the state of process {process.name} was stored as {record.state_type}, and the "
            f"code reads {wanted}: a state keeps its message, which grows by new fields",
        )
    try:
        process.state().ParseFromString(record.state)
    except DecodeError as error:
        raise Doomed(
            "bad_state", f"the stored state of process {process.name} is no {wanted}: {error}"
        ) from error
    return record


def _differs(before: Record, after: Record) -> bool:
    """Whether a step has done anything that has to be kept."""
    return (
        before.state != after.state
        or before.status != after.status
        or before.outgoing != after.outgoing
        or before.wakes != after.wakes
    )

"""Two owners ask an inbox and its model the same, in any order: both must answer the same."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chassis.inbox import Inbox, Lease, LeaseLost, Refusal, Refused, inbox_key, payload_digest
from chassis.inbox.memory import MemoryInbox
from tests.chassis.inbox_labs import LABS

LEASE = 60.0
RETENTION = 600.0
Answer = TypeVar("Answer")

KEYS = st.sampled_from(["one", "two"])
OWNERS = st.sampled_from([0, 1])
DIGESTS = st.sampled_from([payload_digest(b"a payload"), payload_digest(b"another payload")])


@dataclass
class Record:
    """What the model knows of a key. `fence` belongs to the lease that holds now."""

    digest: str
    fence: int
    until: float
    done: bool = False


class InboxMachine(RuleBasedStateMachine):
    """`owners` share one store. The machine advances `clock`, if the store takes one."""

    owners: tuple[Inbox, Inbox]
    runner: asyncio.Runner
    clock: list[float] | None = None

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.example = uuid4().hex  # a store keeps what an earlier example did
        self.records: dict[str, Record] = {}
        self.highest: dict[str, int] = {}

    def ask(self, asked: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(asked)

    @property
    def now(self) -> float:
        return 0.0 if self.clock is None else self.clock[0]

    def alive(self, key: str) -> Record | None:
        record = self.records.get(key)
        return record if record is not None and record.until > self.now else None

    def held(self, lease: Lease) -> Record | None:
        record = self.alive(lease.key)
        return (
            record
            if record is not None and record.fence == lease.fence and not record.done
            else None
        )

    @rule(target=leases, owner=OWNERS, name=KEYS, digest=DIGESTS)
    def claim(self, owner: int, name: str, digest: str) -> Any:
        key = inbox_key("billing-svc", "handler", f"{self.example}{name}")
        record = self.alive(key)
        answer = self.ask(self.owners[owner].claim(key, digest))
        if record is None:
            assert isinstance(answer, Lease)
            assert (answer.key, answer.digest) == (key, digest)
            assert answer.fence > self.highest.get(key, -1)
            self.records[key] = Record(digest, answer.fence, self.now + LEASE)
            self.highest[key] = answer.fence
            return answer
        assert isinstance(answer, Refused)
        if record.digest != digest:
            assert answer.refusal is Refusal.MISMATCH
        elif record.done:
            assert answer.refusal is Refusal.DUPLICATE
        else:
            assert answer.refusal is Refusal.BUSY
            assert 0 < answer.retry_after <= LEASE
        return multiple()

    @rule(target=leases, owner=OWNERS, lease=consumes(leases))
    def extend(self, owner: int, lease: Lease) -> Lease:
        record = self.held(lease)
        if record is None:
            with pytest.raises(LeaseLost):
                self.ask(self.owners[owner].extend(lease))
            return lease
        extended = self.ask(self.owners[owner].extend(lease))
        assert (extended.key, extended.digest) == (lease.key, lease.digest)
        assert extended.fence >= lease.fence
        record.fence, record.until = extended.fence, self.now + LEASE
        self.highest[lease.key] = extended.fence
        return extended

    @rule(owner=OWNERS, lease=leases)
    def complete(self, owner: int, lease: Lease) -> None:
        record = self.held(lease)
        if record is None:
            with pytest.raises(LeaseLost):
                self.ask(self.owners[owner].complete(lease))
            return
        self.ask(self.owners[owner].complete(lease))
        record.done, record.until = True, self.now + RETENTION

    @rule(owner=OWNERS, lease=leases)
    def release(self, owner: int, lease: Lease) -> None:
        self.ask(self.owners[owner].release(lease))
        if self.held(lease) is not None:
            del self.records[lease.key]

    @precondition(lambda self: self.clock is not None)
    @rule(seconds=st.sampled_from([LEASE / 2, LEASE, RETENTION]))
    def time_passes(self, seconds: float) -> None:
        assert self.clock is not None
        self.clock[0] += seconds


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_fuzz_the_memory_inbox_answers_as_the_model_does_while_time_passes(
    runner: asyncio.Runner,
) -> None:
    clock = [0.0]
    inbox = MemoryInbox(LEASE, RETENTION, lambda: clock[0])

    class Machine(InboxMachine):
        pass

    Machine.runner, Machine.owners, Machine.clock = runner, (inbox, inbox), clock
    run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=40))  # type: ignore[no-untyped-call] # hypothesis says nothing


@pytest.mark.parametrize("store", [name for name in LABS if name != "memory"])
def test_fuzz_a_store_answers_as_the_model_does(
    store: str, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with LABS[store](tmp_path_factory.mktemp(store)) as lab:
        owners = (lab.inbox(LEASE, RETENTION), lab.inbox(LEASE, RETENTION))

        class Machine(InboxMachine):
            pass

        Machine.runner, Machine.owners = runner, owners
        for owner in owners:
            runner.run(owner.open())
        try:
            run_state_machine_as_test(
                Machine, settings=settings(max_examples=30, stateful_step_count=30)
            )  # type: ignore[no-untyped-call] # hypothesis says nothing
        finally:
            for owner in owners:
                runner.run(owner.close())

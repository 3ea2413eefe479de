"""What the memory inbox does beyond the conformance suite: an explicit clock, and forgetting."""

from chassis.inbox import Lease, Refusal, Refused
from chassis.inbox.memory import MemoryInbox


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_busy_claim_is_worth_another_try_when_the_lease_is_over() -> None:
    clock = Clock()
    inbox = MemoryInbox(60.0, 3600.0, clock)
    await inbox.claim("key", "digest")
    clock.now = 45.0
    assert await inbox.claim("key", "digest") == Refused(Refusal.BUSY, 15.0)
    clock.now = 60.0
    assert isinstance(await inbox.claim("key", "digest"), Lease)


async def test_a_handled_event_is_forgotten_after_the_retention() -> None:
    clock = Clock()
    inbox = MemoryInbox(60.0, 3600.0, clock)
    lease = await inbox.claim("key", "digest")
    assert isinstance(lease, Lease)
    await inbox.complete(lease)
    clock.now = 3599.0
    assert await inbox.claim("key", "digest") == Refused(Refusal.DUPLICATE)
    clock.now = 3600.0
    assert isinstance(await inbox.claim("key", "digest"), Lease)


async def test_memory_is_bounded_by_what_the_retention_holds() -> None:
    clock = Clock()
    inbox = MemoryInbox(1.0, 10.0, clock)
    for number in range(1000):
        clock.now = float(number)
        lease = await inbox.claim(f"key-{number}", "digest")
        assert isinstance(lease, Lease)
        await inbox.complete(lease)
    assert len(inbox._records) <= 12

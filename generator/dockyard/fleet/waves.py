"""Which service comes when in an update of a fleet, and when no further one is begun.

Decides that; updates nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dockyard.fleet.roster import Member
from dockyard.fleet.status import Row, State, row

_TAKEN_ON = {State.UPDATED, State.FAILED, State.OUTDATED}


@dataclass(frozen=True, slots=True)
class Wave:
    """How many services get an update, and when to stop."""

    limit: int | None = None
    """Services that get an update, at most."""
    canary: int = 0
    """Services that go first. The others follow only if all of these turn out well."""
    max_failures: int = 0
    """After more failed tests than this, no further service is begun."""


@dataclass
class _Failures:
    """Counts the services whose tests failed."""

    allowed: int
    names: list[str] = field(default_factory=list)

    @property
    def are_too_many(self) -> bool:
        return len(self.names) > self.allowed

    def too_many(self, done: Row) -> bool:
        if done.state is State.FAILED:
            self.names.append(done.name)
        return self.are_too_many


Turn = Callable[[Sequence[Member], Callable[[Row], bool]], Iterator[Row]]
"""Updates these services until one of the rows is enough."""


def in_waves(members: Sequence[Member], wave: Wave, turn: Turn) -> Iterator[Row]:
    """Update `members` by `turn`, canaries first. Services that are left out come last."""
    left = list(members)
    limit = len(left) if wave.limit is None else wave.limit
    failures = _Failures(wave.max_failures)
    canaries = now = left[: min(wave.canary, limit)]
    now = now or left[:limit]
    while now:
        done: set[str] = set()
        ill = []
        for result in turn(now, failures.too_many):
            done.add(result.name)
            ill += [result.name] if result.needs_somebody else []
            # A service that got no update leaves its place to the next.
            limit -= _is_taken_on(result)
            yield result
        if failures.are_too_many or (canaries and ill):
            to_blame = failures.names if failures.are_too_many else ill
            because = f"not begun, because of {', '.join(sorted(to_blame))}"
            for member in [member for member in left if member.name not in done][:limit]:
                yield replace(row(member, State.SKIPPED), message=because)
            return
        left = left[len(now) :]
        canaries, now = [], left[:limit]


def _is_taken_on(done: Row) -> bool:
    """Whether the service got its update, or in a dry run would get it."""
    return done.state in _TAKEN_ON or (done.state is State.ERROR and bool(done.branches))

"""Which service comes when in an update of a fleet, and when no further one is begun.

Decides that; updates nothing.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dockyard.fleet.roster import Member, Stage
from dockyard.fleet.status import Row, State, row

_TAKEN_ON = {State.UPDATED, State.FAILED, State.OUTDATED}


@dataclass(frozen=True, slots=True)
class Wave:
    """How many services get an update, and when to stop."""

    limit: int | None = None
    """Services that get an update, at most."""
    canary: int = 0
    """Services that go first. The others follow only if the tests of none of these fail."""
    max_failures: int = 0
    """After more failed tests than this, no further service is begun."""
    stages: tuple[Stage, ...] = ()
    """The waves of the fleet file."""


@dataclass
class _Count:
    """What is left to do, and the services whose tests failed."""

    limit: int
    canaries: int
    allowed: int
    failed: list[str] = field(default_factory=list)

    @property
    def are_too_many(self) -> bool:
        return len(self.failed) > self.allowed

    def is_over(self) -> bool:
        """Whether no further service may be begun."""
        return self.are_too_many or (self.canaries > 0 and bool(self.failed))

    @property
    def next(self) -> int:
        """How many services may be begun now."""
        return min(self.limit, self.canaries) if self.canaries else self.limit

    def too_many(self, done: Row) -> bool:
        if done.state is State.FAILED:
            self.failed.append(done.name)
        return self.are_too_many


Turn = Callable[[Sequence[Member], Callable[[Row], bool]], Iterator[Row]]
"""Updates these services until one of the rows is enough."""
Holding = Callable[[Stage, Mapping[str, Row]], Collection[str]]
"""The services of a stage for which the next one waits, by the rows so far."""


def in_waves(stages: Sequence[Stage], wave: Wave, turn: Turn, holding: Holding) -> Iterator[Row]:
    """Update stage after stage by `turn`, canaries first. Services that are left out come last."""
    everybody = [member for stage in stages for member in stage.members]
    count = _Count(
        len(everybody) if wave.limit is None else wave.limit, wave.canary, wave.max_failures
    )
    done: dict[str, Row] = {}
    for number, stage in enumerate(stages):
        for result in _in_turns(stage, count, turn):
            done[result.name] = result
            yield result
        rest = [member for member in everybody if member.name not in done]
        if count.is_over():
            because = f"not begun, because of {', '.join(sorted(count.failed))}"
            for member in rest[: count.limit]:
                yield replace(row(member, State.SKIPPED), message=because)
            return
        later = {member for after in stages[number + 1 :] for member in after.members}
        held = sorted(holding(stage, done)) if later else []
        if held:
            because = f"not begun: the wave {stage.name} waits for {', '.join(held)}"
            for member in [member for member in rest if member in later]:
                yield replace(row(member, State.WAITING), message=because)
            return


def _in_turns(stage: Stage, count: _Count, turn: Turn) -> Iterator[Row]:
    """A service that gets no update leaves its place, as a canary too, to the next."""
    left = list(stage.members)
    while (now := left[: count.next]) and not count.is_over():
        taken_on = 0
        for result in turn(now, count.too_many):
            taken_on += _is_taken_on(result)
            yield result
        if count.is_over():
            return
        count.limit -= taken_on
        count.canaries = max(0, count.canaries - taken_on)
        left = left[len(now) :]


def _is_taken_on(done: Row) -> bool:
    """Whether the service got its update, or in a dry run would get it."""
    return done.state in _TAKEN_ON or (done.state is State.ERROR and bool(done.branches))

"""Judges why an effect was repeated: only a fault before its completion is a cause.

Knows no sink and no broker.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import groupby, pairwise

from tests.chaos.diary import Diary

COMPLETION_SECONDS = 2.0
"""From an effect to its completion while all servers answer.

The handler takes 0.02 s; the rest is for a busy machine.
"""
STANDSTILL_SECONDS = 4.0
"""A standstill of this length loses leases, which are extended with more than half of them left."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Two effects of an event: by which process, and when (seconds since the epoch)."""

    event: str
    before: int
    before_at: float
    after: int
    after_at: float

    def told(self, diary: Diary) -> str:
        """For people, with what happened from shortly before the first effect to the second."""
        around = [
            f"{entry.what} ({entry.begun - self.before_at:+.1f}"
            f" to {entry.over - self.before_at:+.1f} s)"
            for entry in diary.around(self.before_at - 5, self.after_at)
        ]
        if self.before in diary.killed:
            around.append(
                f"the first was killed ({diary.killed[self.before] - self.before_at:+.1f} s)"
            )
        later = self.after_at - self.before_at
        return (
            f"{self.event}: by {self.before}, {later:.1f} s later by {self.after};"
            f" {', '.join(around) or 'no fault'}"
        )


@dataclass(frozen=True, slots=True)
class Effects:
    """The findings of a run.

    A repeat is an execution beyond an event's first. It has one cause at most.
    """

    handled: AbstractSet[str]
    after_a_kill: list[Repeat]
    """The process before was killed when the effect cannot have been complete for sure."""
    after_a_freeze: list[Repeat]
    """It was frozen then, for longer than its lease, and not killed."""
    after_a_standstill: list[Repeat]
    """Between the two the machine itself stood still, for so long that leases were lost."""
    unexplained: list[str]
    """All others, told."""
    twice_at_a_keyed_sink: list[str]
    """Events with effects under more than one idempotency key."""
    longest_to_a_kill: float
    """Seconds from an effect that was repeated to the kill that explains it, outages left out."""

    @property
    def repeats(self) -> int:
        explained = len(self.after_a_kill) + len(self.after_a_freeze) + len(self.after_a_standstill)
        return explained + len(self.unexplained)

    @property
    def most_after_one_kill(self) -> int:
        """No more than a process had in hand."""
        return max(Counter(repeat.before for repeat in self.after_a_kill).values(), default=0)


def judged(
    repeats: Iterable[Repeat], diary: Diary, handled: AbstractSet[str], twice: list[str]
) -> Effects:
    """`repeats` by their cause."""
    causes: dict[str, list[Repeat]] = {"kill": [], "freeze": [], "standstill": [], "": []}
    for repeat in repeats:
        causes[_cause(repeat, diary)].append(repeat)
    return Effects(
        handled=handled,
        after_a_kill=causes["kill"],
        after_a_freeze=causes["freeze"],
        after_a_standstill=causes["standstill"],
        unexplained=[repeat.told(diary) for repeat in causes[""]],
        twice_at_a_keyed_sink=twice,
        longest_to_a_kill=max(
            (_to_the_kill(repeat, diary) for repeat in causes["kill"]), default=0.0
        ),
    )


def _cause(repeat: Repeat, diary: Diary) -> str:
    if repeat.before in diary.killed and _to_the_kill(repeat, diary) <= COMPLETION_SECONDS:
        return "kill"
    for nap in diary.frozen.get(repeat.before, []):
        if (
            repeat.before_at < nap.over
            and diary.undisturbed(repeat.before_at, nap.begun) <= COMPLETION_SECONDS
        ):
            return "freeze"
    if (
        diary.stood_still(repeat.before_at - COMPLETION_SECONDS, repeat.after_at)
        >= STANDSTILL_SECONDS
    ):
        return "standstill"
    return ""


def _to_the_kill(repeat: Repeat, diary: Diary) -> float:
    return diary.undisturbed(repeat.before_at, diary.killed[repeat.before])


@dataclass(frozen=True, slots=True)
class Turn:
    """A handler at work on an event of `key`, from `begun` to `over` (seconds since the epoch)."""

    key: str
    begun: float
    over: float
    pid: int
    event: str


def out_of_turn(turns: Sequence[Turn], diary: Diary) -> list[str]:
    """The second event of each two turns of a key that overlap; turns with a sleep do not count."""
    awake = sorted(
        (turn for turn in turns if not diary.slept(turn.pid, turn.begun, turn.over)),
        key=lambda turn: (turn.key, turn.begun),
    )
    found = []
    for _, of_key in groupby(awake, key=lambda turn: turn.key):
        found += [after.event for before, after in pairwise(of_key) if after.begun < before.over]
    return found

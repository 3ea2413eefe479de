"""What happened in a run, and when, in seconds since the epoch.

Knows no effect, no broker and no store.
"""

from collections import defaultdict
from dataclasses import dataclass, field

STOOD_STILL = "the machine stood still"


@dataclass(frozen=True, slots=True)
class Entry:
    """`what` happened from `begun` to `over`, its recovery included.

    `outage`: the broker or the store was away.
    """

    begun: float
    over: float
    what: str
    outage: bool = False

    def within(self, begun: float, over: float) -> float:
        """For how many of the seconds between `begun` and `over` it went on."""
        return max(0.0, min(over, self.over) - max(begun, self.begun))


@dataclass
class Diary:
    """Of one run; several may write it."""

    entries: list[Entry] = field(default_factory=list)
    killed: dict[int, float] = field(default_factory=dict)
    """When each process was killed that was given no time to complete."""
    frozen: dict[int, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    """When each process slept for longer than its lease."""

    def undisturbed(self, begun: float, over: float) -> float:
        """For how many of these seconds broker and store were there and the machine went on."""
        disturbances = (
            entry for entry in self.entries if entry.outage or entry.what == STOOD_STILL
        )
        return over - begun - sum(entry.within(begun, over) for entry in disturbances)

    def stood_still(self, begun: float, over: float) -> float:
        """For how many of these seconds the machine did not go on."""
        return sum(entry.within(begun, over) for entry in self.entries if entry.what == STOOD_STILL)

    def slept(self, pid: int, begun: float, over: float) -> bool:
        """Whether the process was frozen, or the machine stood still, between these times."""
        naps = any(nap.within(begun, over) for nap in self.frozen.get(pid, []))
        return naps or self.stood_still(begun, over) > 0

    def around(self, begun: float, over: float) -> list[Entry]:
        """What went on between these times."""
        return [entry for entry in self.entries if entry.begun < over and entry.over > begun]

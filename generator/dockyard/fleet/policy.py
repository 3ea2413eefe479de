"""What the fleet file allows: how far behind, how old a drift, and the waivers from that.

Knows rows and dates; reads no clock.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import Literal

from dockyard.fleet.fleet_file import PolicyEntry
from dockyard.fleet.status import Row, State

Matter = Literal["behind", "drift"]


@dataclass(frozen=True, slots=True)
class Waiver:
    """An exception with an end and a reason."""

    matter: Matter
    until: date
    """The last day on which it counts."""
    reason: str
    services: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    files: tuple[str, ...] = ("*",)
    """Patterns of drifted files."""

    def is_about(self, row: Row, matter: Matter, file: str = "") -> bool:
        """Whether it speaks of this, whether it has ended or not."""
        return (
            self.matter == matter
            and (row.name in self.services or not self.groups.isdisjoint(row.groups))
            and (matter == "behind" or any(fnmatchcase(file, each) for each in self.files))
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed."""

    most_days_behind: int | None = None
    most_days_drifted: int | None = None
    waivers: tuple[Waiver, ...] = ()


def policy_of(entry: PolicyEntry) -> Policy:
    """The policy as the fleet file says it."""
    waivers = tuple(
        Waiver(
            matter=each.of,
            until=each.until,
            reason=each.reason,
            services=frozenset(each.services),
            groups=frozenset(each.groups),
            files=tuple(each.files),
        )
        for each in entry.waivers
    )
    return Policy(entry.max_days_behind, entry.max_days_drifted, waivers)


def judged(row: Row, policy: Policy, now: datetime) -> Row:
    """`row`, with what breaks the policy and what a waiver allows."""
    breaches, waived = [], []
    if row.state in {State.ERROR, State.FOREIGN}:
        breaches.append(f"it is {row.state}, so nothing can be told")
    for matter, file, sentence in _excesses(row, policy, now):
        about = [each for each in policy.waivers if each.is_about(row, matter, file)]
        valid = [each for each in about if each.until >= now.date()]
        if valid:
            longest = max(valid, key=lambda each: each.until)
            waived.append(f"{sentence}; waived until {longest.until}: {longest.reason}")
        elif about:
            latest = max(about, key=lambda each: each.until)
            breaches.append(f"{sentence}; its waiver ended on {latest.until}: {latest.reason}")
        else:
            breaches.append(sentence)
    return replace(row, breaches=tuple(breaches), waived=tuple(waived))


def days(since: datetime | None, now: datetime) -> int:
    """Whole days from `since` to `now`."""
    return max(0, (now - since).days) if since else 0


def oldest_drift(row: Row) -> datetime | None:
    """Since when the service has drifted in any file."""
    return min(row.drift_since.values(), default=None)


def _excesses(row: Row, policy: Policy, now: datetime) -> Iterator[tuple[Matter, str, str]]:
    most, age = policy.most_days_behind, days(row.lacking_since, now)
    if most is not None and row.behind and age > most:
        yield "behind", "", f"it is behind for {age} days, {most} are allowed"
    most = policy.most_days_drifted
    for path, _ in row.drift if most is not None else ():
        age = days(row.drift_since.get(path), now)
        if most is not None and age > most:
            yield "drift", path, f"{path} has drifted for {age} days, {most} are allowed"


def are_kept(rows: Sequence[Row]) -> bool:
    """Whether no row breaks the policy."""
    return not any(row.breaches for row in rows)

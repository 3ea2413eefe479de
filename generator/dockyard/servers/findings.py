"""What a check finds: a fault or a warning that says what, where, and how to mend it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

SKEW_SECONDS = 2.0
"""Leases and schedules compare clocks; the date of an HTTP answer is exact to a second."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`fault`: a service will not work as it should. `warning`: it works, and it is at risk."""

    level: Literal["fault", "warning"]
    where: str
    what: str
    mend: str


@dataclass(slots=True)
class Report:
    """Of one server or cluster. `address` holds no password, `seen` says what was looked at."""

    component: str
    address: str
    seen: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def fault(self, where: str, what: str, mend: str) -> None:
        self.findings.append(Finding("fault", where, what, mend))

    def warn(self, where: str, what: str, mend: str) -> None:
        self.findings.append(Finding("warning", where, what, mend))

    @property
    def good(self) -> bool:
        return not any(finding.level == "fault" for finding in self.findings)

    def version(self, text: str, oldest: Sequence[int], name: str) -> None:
        """Compare the server's version."""
        self.seen.append(f"version {text}")
        parts = text.partition("-")[0].partition(" ")[0].split(".")
        there = tuple(int(part) for part in parts if part.isdecimal())
        if there < tuple(oldest):
            needed = ".".join(map(str, oldest))
            self.fault(name, f"version {text} is too old", f"upgrade to {needed} or later")

    def nodes(self, there: int, wanted: int | None, name: str) -> None:
        """Compare the number of nodes that run."""
        self.seen.append(f"{there} {'node' if there == 1 else 'nodes'}")
        if wanted is not None and there < wanted:
            what = f"{there} of {wanted} nodes run"
            self.fault(name, what, "start the missing nodes, or give their number with --nodes")

    def clock(self, skew: float) -> None:
        """Compare its clock with the clock of this machine; `skew` is in seconds."""
        self.seen.append("clock")
        if abs(skew) > SKEW_SECONDS:
            way = "ahead of" if skew > 0 else "behind"
            self.fault(
                "clock",
                f"it is {abs(skew):.1f} s {way} the clock of this machine",
                "synchronise both clocks by NTP, and look which one is wrong",
            )

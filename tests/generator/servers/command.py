"""The command `dockyard platform` as a user calls it, and what its `--json` says."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE = "billing-svc"
PATIENCE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Checked:
    code: int
    components: list[dict[str, Any]]
    text: str

    @property
    def findings(self) -> list[dict[str, str]]:
        return [finding for each in self.components for finding in each["findings"]]


def dockyard(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dockyard", "platform", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def bootstrap(
    *urls: str, passwords: Path, service: str = SERVICE, more: tuple[str, ...] = ()
) -> str:
    """What it says; no password may be in it."""
    done = dockyard("bootstrap", *urls, "--service", service, "--passwords", str(passwords), *more)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert not [secret for secret in passwords_in(passwords).values() if secret in said]
    return said


def check(*urls: str, service: str = SERVICE, more: tuple[str, ...] = ()) -> Checked:
    done = dockyard("check", *urls, "--service", service, "--json", *more)
    assert done.returncode in {0, 1}, done.stderr
    record = json.loads(done.stdout)
    assert record["good"] == (done.returncode == 0)
    return Checked(done.returncode, record["components"], done.stdout)


def faults(checked: Checked) -> list[dict[str, str]]:
    """Each with a sentence on how to mend it."""
    found = [finding for finding in checked.findings if finding["level"] == "fault"]
    assert all(fault["mend"] for fault in found)
    assert bool(found) == (checked.code == 1)
    return found


def passwords_in(path: Path) -> dict[str, str]:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)

"""The recording of `make demo`: its words of one run, kept while new runs have the same shape.

Ids, ports, times and counts differ between runs. A recording is stale if anything else differs.
"""

import difflib
import re
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).parents[1] / "pictures" / "demo.txt"

_VARIES = re.compile(r"\b[0-9a-f]{12,}\b|\d+([-:.T]\d+)*")


def shape(printed: str) -> list[str]:
    """The lines of `printed` without what differs between two runs."""
    return [re.sub(r"\s+", " ", _VARIES.sub("#", line)) for line in printed.splitlines()]


def difference(printed: str, recorded: str) -> str:
    """The lines by which the shapes differ; empty if they are the same."""
    lines = difflib.unified_diff(
        shape(recorded), shape(printed), "recorded", "printed", lineterm=""
    )
    return "\n".join(lines)


def record() -> str:
    """What the demo prints, which is shown meanwhile. Ends this process if the demo fails."""
    command = [sys.executable, "-m", "dockyard", "demo"]
    with subprocess.Popen(  # noqa: S603 - this repository's own command
        command, stdout=subprocess.PIPE, encoding="utf-8"
    ) as demo:
        assert demo.stdout is not None  # noqa: S101 - it is a pipe
        printed = ""
        while part := demo.stdout.read(1):
            printed += part
            sys.stdout.write(part)
            sys.stdout.flush()
    if demo.returncode:
        raise SystemExit(demo.returncode)
    return printed

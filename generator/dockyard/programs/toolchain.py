"""The programs that finish and test a rendered service: uv locks it, make does the rest.

Knows what a rendered service offers to them; knows nothing of templates or git.
"""

import os
import re
import signal
import subprocess
from pathlib import Path

from dockyard.errors import ToolFailed, ToolMissing
from dockyard.programs import git

# They would bind the programs to another environment, or to the make that called us.
_FOREIGN_VARIABLES = frozenset(
    {
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "PYTHONPATH",
        "UV_PROJECT",
        "UV_PROJECT_ENVIRONMENT",
        "VIRTUAL_ENV",
    }
)
_NETWORK = (
    "If this is the network, check the connection and the package index that uv uses; "
    "then run this again."
)
_MAKEFILE = "Mend the Makefile, which the template has, and run this again."
# What make says when a command of a rule has failed: the command itself said why.
_MAKE_ECHOES = re.compile(
    r"make(\[\d+\])?: "
    r"(Entering directory|Leaving directory|\*\*\* \[.*\] (Error|Killed|Terminated))"
)
_MAKE_ITSELF = re.compile(r"make(\[\d+\])?: \*\*\* |Makefile:\d+: \*\*\* ")


def environment() -> dict[str, str]:
    """The environment in which a service's own programs run: bound to no other service or make.

    The uv that came with Dockyard is first in PATH. Raises ToolMissing.
    """
    env = {
        name: value for name, value in git.environment().items() if name not in _FOREIGN_VARIABLES
    }
    env["PATH"] = os.pathsep.join([str(Path(_uv()).parent), env.get("PATH", os.defpath)])
    return env


def lock(service: Path) -> None:
    """Resolve the service's dependencies into its uv.lock. Raises ToolMissing and ToolFailed."""
    _run([_uv(), "lock"], service, f"lock the dependencies of {service.name}", _NETWORK)


def has_contracts(service: Path) -> bool:
    """Whether there is code to generate from contracts."""
    return (service / "Makefile").is_file() and (service / "buf.gen.yaml").is_file()


def generate_contracts(service: Path) -> None:
    """Generate the code of the service's contracts. Raises ToolMissing and ToolFailed."""
    _run(
        ["make", "contracts"], service, f"generate the contracts' code of {service.name}", _NETWORK
    )


def set_up(service: Path) -> None:
    """Make the service's environment. Raises ToolMissing and ToolFailed."""
    _run(["make", "setup"], service, f"make the environment of {service.name}", _NETWORK)


def test(service: Path) -> None:
    """Run the service's own tests. Raises ToolMissing and ToolFailed."""
    _run(["make", "test"], service, f"run the tests of {service.name}", "Mend what they found.")


def _uv() -> str:
    import uv  # noqa: PLC0415 - most commands need none

    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise ToolMissing("uv") from error


def _run(command: list[str], folder: Path, doing: str, mend: str) -> None:
    try:
        process = subprocess.Popen(  # noqa: S603 - fixed programs, no shell
            command,
            cwd=folder,
            # One language, because `_reason` reads what make says.
            env={**environment(), "LC_MESSAGES": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            process_group=0,
        )
    except FileNotFoundError as error:
        raise ToolMissing(command[0]) from error
    with process:
        try:
            output, _ = process.communicate()
        except BaseException:
            # The whole group: make's children would go on writing into a folder that is going away.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        reason = _reason(output, process.returncode)
        raise ToolFailed(doing, reason, _MAKEFILE if _MAKE_ITSELF.search(reason) else mend)


def _reason(output: str, status: int) -> str:
    """The telling part of a program's output: its first error with the cause, else its last lines.

    What make itself cannot do comes before everything: the programs it runs were not reached.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    lines = [line for line in lines if not _MAKE_ECHOES.match(line)]
    if own := [line for line in lines if _MAKE_ITSELF.match(line)]:
        return own[0]
    errors = [number for number, line in enumerate(lines) if line.startswith("error:")]
    if errors:
        first, *causes = lines[errors[0] :]
        causes = [
            line.partition(":")[2].strip()
            for line in causes
            if line.lower().startswith(("cause:", "caused by:"))
        ]
        # uv names the address or the conflict first and what the system said last; between them it
        # repeats itself.
        telling = dict.fromkeys([*causes[:1], *causes[-1:]])
        return ": ".join([first.removeprefix("error:").strip(), *telling])
    if lines:
        return " ".join(lines[-5:])
    return f"it was stopped by signal {-status}" if status < 0 else f"it ended with status {status}"

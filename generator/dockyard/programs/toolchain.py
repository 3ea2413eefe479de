"""The programs that finish a rendered service: uv locks it, make generates its contracts' code.

Knows what a rendered service offers to them; knows nothing of templates or git.
"""

import os
import signal
import subprocess
from pathlib import Path

from dockyard.errors import ToolFailed, ToolMissing

# They would bind the programs to another environment, or to the make that called us.
_FOREIGN_VARIABLES = (
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT",
    "VIRTUAL_ENV",
)
_NETWORK = "If this is the network, check the connection and the package index that uv uses; then run this again."


def lock(service: Path) -> None:
    """Resolve the service's dependencies into its uv.lock. Raises ToolMissing, and ToolFailed when uv cannot."""
    _run([_uv(), "lock"], service, f"lock the dependencies of {service.name}", _NETWORK)


def has_contracts(service: Path) -> bool:
    """Whether code is to be generated from contracts."""
    return (service / "Makefile").is_file() and (service / "buf.gen.yaml").is_file()


def generate_contracts(service: Path) -> None:
    """Generate the code of the service's contracts as its Makefile does. Raises ToolMissing and ToolFailed."""
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
    import uv  # noqa: PLC0415 - needed by this command alone

    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise ToolMissing("uv") from error


def _run(command: list[str], folder: Path, doing: str, mend: str) -> None:
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN_VARIABLES}
    env["PATH"] = os.pathsep.join([str(Path(_uv()).parent), env.get("PATH", os.defpath)])
    try:
        process = subprocess.Popen(  # noqa: S603 - fixed programs, no shell
            command,
            cwd=folder,
            env=env,
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
            # The whole group: make's children would go on writing into a folder that is being removed.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise ToolFailed(doing, _reason(output, process.returncode), mend)


def _reason(output: str, status: int) -> str:
    """The telling part of a program's output: its first error with what it says of the cause, else its last lines."""
    lines = [
        line.strip() for line in output.splitlines() if line.strip() and not line.startswith("make")
    ]
    errors = [number for number, line in enumerate(lines) if line.startswith("error:")]
    if errors:
        first, *causes = lines[errors[0] :]
        causes = [
            line.partition(":")[2].strip()
            for line in causes
            if line.lower().startswith(("cause:", "caused by:"))
        ]
        # uv names the address or the conflict first and what the system said last; between them it repeats itself.
        telling = dict.fromkeys([*causes[:1], *causes[-1:]])
        return ": ".join([first.removeprefix("error:").strip(), *telling])
    if lines:
        return " ".join(lines[-5:])
    return f"it was stopped by signal {-status}" if status < 0 else f"it ended with status {status}"

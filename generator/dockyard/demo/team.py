"""The work of a team on a new service: contracts, handlers and tests of its own, a commit."""

import shutil
from collections.abc import Callable
from pathlib import Path

from dockyard.programs import git, toolchain

_TEAM = Path(__file__).parent / "team"
_POISONED = 'name, _domain = event.email.split("@")'
_FIXED = 'name = event.email.partition("@")[0]'


def write_handlers(service: Path, progress: Callable[[str], None]) -> None:
    """Put the team's code in the place of the example in `service`, run its tests, and commit.

    Each service has the contracts of orders and payments: they go from one to the other.
    """
    package = service.name.replace("-", "_")
    domain = service.name.removesuffix("-svc")
    (service / f"contracts/acme/{domain}/v1/signup_handled.proto").unlink()
    shutil.copytree(_TEAM / "contracts", service / "contracts", dirs_exist_ok=True)
    shutil.copytree(_TEAM / service.name, service, dirs_exist_ok=True)
    shutil.copy(_TEAM / "provider.py", service / "src" / package / "provider.py")
    progress("generating contracts")
    toolchain.generate_contracts(service)
    progress("making the environment")
    toolchain.set_up(service)
    progress("running the tests")
    toolchain.test(service)
    git.commit_all(service, f"Write what {service.name} does")


def fix_handler(service: Path) -> tuple[str, str]:
    """Mend the bug that the poison message met; returns the line before and after."""
    handlers = service / "src/welcome_svc/handlers.py"
    handlers.write_text(handlers.read_text().replace(_POISONED, _FIXED))
    git.commit_all(service, "Welcome people whose address has no domain")
    return _POISONED, _FIXED

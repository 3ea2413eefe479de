"""What a team does to a freshly rendered service: its contracts, its handlers, its tests, a commit."""

import shutil
from pathlib import Path

from dockyard.programs import git, toolchain

_TEAM = Path(__file__).parent / "team"
_POISONED = 'name, _domain = event.email.split("@")'
_FIXED = 'name = event.email.partition("@")[0]'


def write_handlers(service: Path) -> None:
    """Replace the example of `service` by the team's own code, run its tests, and commit."""
    package = service.name.replace("-", "_")
    domain = service.name.removesuffix("-svc")
    (service / f"contracts/acme/{domain}/v1/signup_handled.proto").unlink()
    shutil.copytree(_TEAM / service.name, service, dirs_exist_ok=True)
    shutil.copy(_TEAM / "provider.py", service / "src" / package / "provider.py")
    toolchain.generate_contracts(service)
    toolchain.test(service)
    git.commit_all(service, "Handle sign-ups")


def fix_handler(service: Path) -> str:
    """Mend the bug that the poison message met; returns the change as a patch."""
    handlers = service / "src/welcome_svc/handlers.py"
    handlers.write_text(handlers.read_text().replace(_POISONED, _FIXED))
    patch = git.run("diff", "--unified=0", folder=service)
    git.commit_all(service, "Welcome people whose address has no domain")
    return patch

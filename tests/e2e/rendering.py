"""A service rendered from the working tree, its environment made, its handlers those of a test."""

import os
import re
import shlex
import sys
from pathlib import Path

from uv import find_uv_bin

from tests.template import lab

_FOREIGN = ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")


def render_service(
    template: Path, folder: Path, handlers: str, *, extras: str | None = None
) -> Path:
    """`billing-svc` with default answers in the empty `folder`, ready to run.

    `extras` of the chassis replace those of the answers.
    """
    service = lab.copy(template, folder / "billing-svc", service_name="billing-svc")
    (service / "src/billing_svc/handlers.py").write_text(handlers)
    if extras is not None:
        project = service / "pyproject.toml"
        wanted = f'"dockyard-chassis[{extras}]"'
        text, count = re.subn(r'"dockyard-chassis\[[^]]*\]"', wanted, project.read_text(), count=1)
        assert count == 1, project
        project.write_text(text)
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    env |= {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    lab.run(["make", "setup", f"UV={shlex.quote(find_uv_bin())}"], service, env)
    return service

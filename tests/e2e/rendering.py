"""A service rendered from the working tree, its environment made, its handlers those of a test."""

import os
import sys
from pathlib import Path

from uv import find_uv_bin

from tests.template import lab

_FOREIGN = ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")


def render_service(folder: Path, handlers: str) -> Path:
    """`billing-svc` with default answers in the empty `folder`, ready to run."""
    template = folder / "template"
    template.mkdir()
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")
    service = lab.copy(template, folder / "billing-svc", service_name="billing-svc")
    (service / "src/billing_svc/handlers.py").write_text(handlers)
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    env |= {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    lab.run(["make", "setup", f"UV={find_uv_bin()}"], service, env)
    return service

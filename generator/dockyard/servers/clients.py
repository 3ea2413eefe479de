"""The client libraries of the servers, which a plain install of dockyard does not have."""

from importlib import import_module
from typing import Any

from dockyard.errors import DockyardError
from dockyard.origin import installing


class NoClient(DockyardError):
    """The library for this component is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the Python package {name} is not installed: {installing('platform')}. "
            "Then run this again."
        )


def client_of(name: str) -> Any:
    """The module `name`. Raises NoClient."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise NoClient(name.partition(".")[0]) from None

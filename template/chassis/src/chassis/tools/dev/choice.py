"""What a service chose: its broker, its store, its organisation, and the images of both.

Read from what a service has anyway: the extras of its chassis, the answers to the template's
questions, and `deploy/compose.yaml`. Knows these files; knows no server.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

_EXTRAS = re.compile(r"dockyard-chassis\s*\[([^\]]*)\](?!.*\bextra\b)")
_ORGANISATION = re.compile(r"^organisation: *['\"]?([a-z0-9_]+)['\"]?\s*$", re.MULTILINE)
_IMAGE = re.compile(r"^ *image: *(\S*/(nats|postgres|rabbitmq|redis):\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Choice:
    """`bus` and `store` are kinds of servers, and `images` are by kind.

    `organisation` is None in a folder that the template has not rendered.
    """

    bus: str
    store: str
    organisation: str | None
    images: Mapping[str, str]


def chosen(service: str, folder: Path) -> Choice:
    """What the installed `service` chose, whose repository is `folder`."""
    extras = _extras(service)
    organisation = _ORGANISATION.search(_text(folder / ".copier-answers.yml"))
    return Choice(
        bus="rabbitmq" if "rabbitmq" in extras else "nats",
        store=next((store for store in ("postgres", "redis") if store in extras), "nats"),
        organisation=None if organisation is None else organisation[1],
        images={
            found[2]: found[1] for found in _IMAGE.finditer(_text(folder / "deploy/compose.yaml"))
        },
    )


def _extras(service: str) -> set[str]:
    """The extras of the chassis that the service itself requires."""
    try:
        required = requires(service) or []
    except PackageNotFoundError:
        return set()
    found = [match[1] for line in required if (match := _EXTRAS.match(line))]
    return {extra.strip() for extras in found for extra in extras.split(",")}


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""

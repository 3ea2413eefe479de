"""Where this command comes from: a checkout, or a git repository that it was installed from.

A fork's command finds its own template that way, and names no package of an index that another
might own. Knows Python's record of an installation; knows nothing of templates.
"""

import json
from importlib import metadata
from pathlib import Path


def checkout() -> Path | None:
    """The checkout that this code runs in, None if it was installed elsewhere."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "copier.yml").is_file():
            return folder
    return None


def repository() -> str | None:
    """The git URL that this command was installed from, None if it came another way (PEP 610)."""
    try:
        said = json.loads(metadata.distribution("dockyard").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    if not isinstance(said, dict) or said.get("vcs_info", {}).get("vcs") != "git":
        return None
    return f"git+{said['url']}"


def installing(extra: str) -> str:
    """How to get what `extra` of this command brings, as the end of a sentence."""
    if folder := checkout():
        return f"`make setup` in {folder} brings it"
    if url := repository():
        return f"`uv tool install --force 'dockyard[{extra}] @ {url}'` brings it"
    return f"install dockyard with its extra {extra} from where this command came from"

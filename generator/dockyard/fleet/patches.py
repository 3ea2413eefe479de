"""The drift of one service as a patch, or what an update would change.

Writes nothing and raises nothing, see `status`.
"""

from dataclasses import dataclass

from dockyard import commands
from dockyard.errors import Defect, DockyardError
from dockyard.fleet import clones
from dockyard.fleet.base import base_of
from dockyard.fleet.roster import Member
from dockyard.programs.tree import shown


@dataclass(frozen=True, slots=True)
class Patch:
    """What `git diff` would show of one service, or why it cannot."""

    name: str
    text: bytes
    problem: str = ""


def patch_of(member: Member, to: str | None) -> Patch:
    """The patch of `member`. Its paths begin with the service's name."""
    try:
        at = base_of(member).at
        text = commands.diff(clones.folder(member), to, folder=shown(member.name), at=at).patch
    except DockyardError as error:
        return Patch(member.name, b"", str(error))
    except Exception as error:  # noqa: BLE001 - a defect met in one service must not stop the others
        return Patch(member.name, b"", str(Defect(error)))
    return Patch(member.name, text)

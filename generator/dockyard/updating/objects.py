"""Brings objects into a service's repository: by links to the files of the cache, else by git's own packs.

Knows git's object databases; knows nothing of commits, plans and templates.
"""

import stat
import zlib
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

from dockyard.errors import BrokenCache
from dockyard.programs import git
from dockyard.service import Service
from dockyard.updating.scratch_repository import Bench

_READABLE = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def bring(bench: Bench, service: Service, wanted: Sequence[str]) -> None:
    """Give the service's repository what it lacks of the objects `wanted` and all they refer to. Raises BrokenCache."""
    revisions = ("".join(f"{oid}\n" for oid in wanted) + f"^{service.head}^{{tree}}\n").encode()
    listed = git.run(
        *("rev-list", "--objects", "--no-object-names", "--stdin"),
        folder=bench.folder,
        env=bench.env,
        stdin=revisions,
    )
    # Nearly all lie in a file each; a link costs next to nothing beside a process that packs and one that unpacks.
    left = [
        oid
        for oid in listed.splitlines()
        if not any(_linked(oid, each, service.objects) for each in bench.stores)
    ]
    if left:
        pack = git.output(
            # It goes to the next process and no further: nothing in it has to be small.
            *(
                "-c",
                "pack.compression=0",
                "pack-objects",
                "--stdout",
                "--quiet",
                "--window=0",
                "--threads=1",
            ),
            folder=bench.folder,
            env=bench.env,
            stdin="".join(f"{oid}\n" for oid in left).encode(),
        )
        env = git.isolated_environment()
        git.output("unpack-objects", "-q", folder=service.root, env=env, stdin=pack)
        try:
            # Git unpacks what it is given, whether or not that is what the file was named after.
            git.run(
                "rev-list",
                "--objects",
                "--quiet",
                "--stdin",
                folder=service.root,
                env=env,
                stdin=revisions,
            )
        except git.GitFailed as error:
            raise BrokenCache(bench.stores[0].parent, error.reason) from error


def _linked(oid: str, store: Path, objects: Path) -> bool:
    """Whether `objects` has the object now, by a link to the file that `store` has of it, which must be whole."""
    name = f"{oid[:2]}/{oid[2:]}"
    file, link = store / name, objects / name
    try:
        if sha1(zlib.decompress(file.read_bytes()), usedforsecurity=False).hexdigest() != oid:
            return False
        wanted = objects.stat().st_mode
        if wanted & _READABLE & ~file.stat().st_mode:
            # A repository that people share, and objects that are for this user alone.
            return False
        if not link.parent.is_dir():
            link.parent.mkdir(exist_ok=True)
            link.parent.chmod(stat.S_IMODE(wanted))
        link.hardlink_to(file)
    except FileExistsError:
        return True
    except (OSError, zlib.error):
        # Not there, packed, on another disk, broken: git can tell, and do it in its own way.
        return False
    return True

"""Git's loose objects, read without git and checked against their names.

Knows git's format of objects; knows nothing of what they are for.
"""

import zlib
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

_FOLDER = b"40000"
_SUBMODULE = b"160000"
_OID_BYTES = 20


class DamagedError(Exception):
    """The file is there, and its contents are not the object that its name promises."""


def path(oid: str, objects: Path) -> Path:
    """The file of the object `oid` in the object database `objects`."""
    return objects / oid[:2] / oid[2:]


def load(oid: str, objects: Path) -> bytes:
    """The contents of the object `oid`, with git's header. Raises OSError and DamagedError."""
    try:
        content = zlib.decompress(path(oid, objects).read_bytes())
    except zlib.error as error:
        raise DamagedError from error
    if sha1(content, usedforsecurity=False).hexdigest() != oid:
        raise DamagedError
    return content


def children(tree: bytes) -> Iterator[tuple[str, bool]]:
    """The objects that a tree refers to, and whether each is a tree. Submodules are left out.

    `tree` is what `load` gave.
    """
    at = tree.index(b"\0") + 1
    while at < len(tree):
        space, end = tree.index(b" ", at), tree.index(b"\0", at)
        mode = tree[at:space]
        oid = tree[end + 1 : end + 1 + _OID_BYTES].hex()
        at = end + 1 + _OID_BYTES
        if mode != _SUBMODULE:
            yield oid, mode == _FOLDER

"""Git trees as plain mappings. Knows git's plumbing; knows nothing of services or templates.

A path is a string. Bytes that are not UTF-8 are surrogates in it, as in all of Python's file names.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from dockyard.programs import git

SUBMODULE = "160000"
"""The mode of a submodule, which has no contents of its own."""


class Entry(NamedTuple):
    """A file, symlink or submodule in a tree."""

    mode: str
    """Six octal digits, as git writes them."""
    oid: str


Entries = Mapping[str, Entry]


def entries(tree: str, folder: Path, env: Mapping[str, str]) -> dict[str, Entry]:
    """All files below the tree-ish `tree`, in the repository of `folder` and `env`.

    Raises GitFailed.
    """
    listed = git.run("ls-tree", "-r", "-z", "--full-tree", tree, folder=folder, env=env)
    found = {}
    for line in listed.split("\0")[:-1]:
        meta, _, path = line.partition("\t")
        mode, _, oid = meta.split(" ")
        found[path] = Entry(mode, oid)
    return found


def write(files: Entries, folder: Path, env: Mapping[str, str]) -> str:
    """Write `files` as a tree to the repository of `folder` and `env`, and give the tree's id.

    Raises GitFailed.
    """
    index = Path(env["GIT_DIR"]) / f"index-{uuid4().hex}"
    own = {**env, "GIT_INDEX_FILE": str(index)}
    lines = "".join(f"{entry.mode} {entry.oid}\t{path}\0" for path, entry in files.items())
    git.run("update-index", "-z", "--index-info", folder=folder, env=own, stdin=os.fsencode(lines))
    tree = git.run("write-tree", "--missing-ok", folder=folder, env=own).strip()
    index.unlink(missing_ok=True)
    return tree


def shown(path: str) -> str:
    """`path` for people and for JSON. Bytes that are not UTF-8 and control characters are escaped:
    they would move a terminal's cursor.
    """
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )

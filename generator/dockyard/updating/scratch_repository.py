"""A throw-away git repository that sees a service's objects and all renders.

What is made here stays here, so predictions leave nothing in the service. Knows git; knows nothing
of merges.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dockyard.programs import bare, git, partial
from dockyard.programs.scratch import scratch_folder
from dockyard.programs.tree import SUBMODULE, Entries, Entry, entries, write
from dockyard.rendering.render_cache import store
from dockyard.service import Service

# Older gits' merge-tree always works like this; newer gits read these settings.
_MERGING = {
    "merge.conflictStyle": "merge",
    "merge.directoryRenames": "conflict",
    "merge.renameLimit": "7000",
    "merge.renames": "true",
    "merge.renormalize": "false",
}
_NEEDED = (2, 38)


@dataclass(frozen=True, slots=True)
class ScratchRepository:
    """The repository, while `open_scratch` is open."""

    folder: Path
    env: Mapping[str, str]
    """Binds git to the repository."""
    stores: tuple[Path, ...]
    """Object databases that the service may lack: all renders, and the repository's own."""
    partial: Path | None
    """The service's folder, if its repository is a partial clone."""

    def need(self, files: Iterable[Entry]) -> None:
        """Bring the contents that the service's partial clone lacks. Raises CannotFetch."""
        if self.partial is None:
            return
        oids = {entry.oid for entry in files if entry.mode != SUBMODULE}
        wanted = "".join(f"{oid}\n" for oid in oids).encode()
        told = git.run("cat-file", "--batch-check", folder=self.folder, env=self.env, stdin=wanted)
        lacking = [line.split()[0] for line in told.splitlines() if line.endswith(" missing")]
        if lacking:
            partial.fetch(lacking, self.partial)

    def entries(self, tree: str) -> dict[str, Entry]:
        """The files of `tree`: of a render, of the service or made here. Raises GitFailed."""
        return entries(tree, self.folder, self.env)

    def write(self, files: Entries) -> str:
        """Write `files` as a tree to the repository, and give its id. Raises GitFailed."""
        return write(files, self.folder, self.env)

    def commit(self, *commits: tuple[str, str | None, Entries | str]) -> None:
        """Make branches of one commit each, all at once. Raises GitFailed.

        A commit is the branch's name, the branch that is its parent, and its files or its tree.
        """
        if self.partial is not None:
            # fast-import takes no file whose contents are with the remote; a tree may have one.
            commits = tuple(
                (name, parent, content if isinstance(content, str) else self.write(content))
                for name, parent, content in commits
            )
        stream = b"".join(_commit_of(*commit) for commit in commits)
        git.run("fast-import", "--quiet", "--force", folder=self.folder, env=self.env, stdin=stream)


@contextmanager
def open_scratch(service: Service) -> Iterator[ScratchRepository]:
    """A scratch repository for `service`, removed at the end.

    Raises GitTooOld, CannotFetch, and OSError if the disk is full.
    """
    git.require(_NEEDED)
    with scratch_folder("dockyard-work-") as folder:
        bare.make(folder)
        (folder / "objects/info/alternates").write_bytes(
            b"".join(_alternate(path) for path in (service.objects, store() / "objects"))
        )
        env = git.isolated_environment(_MERGING) | git.neutral_identity()
        stores = (store() / "objects", folder / "objects")
        clone = service.root if partial.is_partial(service.objects) else None
        if clone is not None:
            partial.fetch_trees(clone, service.head)
        yield ScratchRepository(folder, env | {"GIT_DIR": str(folder)}, stores, clone)


def _alternate(path: Path) -> bytes:
    """A line of git's list of object databases. Git reads quotes as in C."""
    name = os.fsencode(path)
    if b"\n" in name or name.startswith((b'"', b"#")):
        escaped = name.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
        name = b'"' + escaped + b'"'
    return name + b"\n"


def _commit_of(branch: str, parent: str | None, content: Entries | str) -> bytes:
    """A commit in the language of fast-import."""
    lines = [f"commit refs/heads/{branch}", "committer Dockyard <> 0 +0000", "data 0"]
    lines += [f"from refs/heads/{parent}"] if parent else []
    lines += ["deleteall"]
    if isinstance(content, str):
        lines += [f'M 040000 {content} ""']
    else:
        lines += [f"M {entry.mode} {entry.oid} {_quoted(path)}" for path, entry in content.items()]
    return os.fsencode("\n".join([*lines, "", ""]))


def _quoted(path: str) -> str:
    escaped = path.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'

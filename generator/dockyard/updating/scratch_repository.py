"""A throw-away git repository that sees a service's objects and all renders, and keeps what is made to itself.

Predictions therefore leave nothing in the service. Knows git; knows nothing of merges.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dockyard.programs import git
from dockyard.programs.scratch import scratch
from dockyard.programs.tree import Entries, Entry, entries, write
from dockyard.rendering.render import store
from dockyard.service import Service

_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
# What merge-tree of older gits does whatever the configuration says; newer ones would heed the user's.
_MERGING = {
    "merge.conflictStyle": "merge",
    "merge.directoryRenames": "conflict",
    "merge.renameLimit": "7000",
    "merge.renames": "true",
    "merge.renormalize": "false",
}
_NEEDED = (2, 38)


@dataclass(frozen=True, slots=True)
class Bench:
    """The repository, while `open_bench` is open."""

    folder: Path
    env: Mapping[str, str]
    """Binds git to the bench."""
    stores: tuple[Path, ...]
    """Object databases whose objects the service may lack: that of all renders, and the bench's own."""

    def entries(self, tree: str) -> dict[str, Entry]:
        """The files of `tree`, of a render, of the service or made here. Raises GitFailed."""
        return entries(tree, self.folder, self.env)

    def write(self, files: Entries) -> str:
        """Id of the tree of `files`, which is put into the bench. Raises GitFailed."""
        return write(files, self.folder, self.env)

    def commit(self, *commits: tuple[str, str | None, Entries | str]) -> None:
        """Make branches of one commit each: a name, the branch that is its parent, and its files or its tree.

        One process does it all. Raises GitFailed.
        """
        stream = b"".join(_commit_of(*commit) for commit in commits)
        git.run("fast-import", "--quiet", "--force", folder=self.folder, env=self.env, stdin=stream)


@contextmanager
def open_bench(service: Service) -> Iterator[Bench]:
    """A bench for `service`, removed at the end. Raises GitTooOld, and OSError when there is no room for it."""
    git.require(_NEEDED)
    with scratch("dockyard-work-") as folder:
        (folder / "objects/info").mkdir(parents=True)
        (folder / "refs/heads").mkdir(parents=True)
        (folder / "HEAD").write_text("ref: refs/heads/none\n")
        (folder / "config").write_text(_CONFIG)
        (folder / "objects/info/alternates").write_text(
            f"{service.objects}\n{store() / 'objects'}\n"
        )
        env = git.isolated_environment(_MERGING) | git.NEUTRAL_IDENTITY | {"GIT_DIR": str(folder)}
        yield Bench(folder, env, (store() / "objects", folder / "objects"))


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

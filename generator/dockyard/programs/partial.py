"""Objects that a partial clone left with its remote. Knows git; knows nothing of services."""

from collections.abc import Sequence
from pathlib import Path

from dockyard.errors import DockyardError, one_line
from dockyard.programs import git, network


class CannotFetch(DockyardError):
    """A partial clone lacks objects, and its remote does not give them."""

    def __init__(self, folder: Path, remote: str, count: int, reason: str) -> None:
        whole = f"git fetch --refetch --no-filter {remote}"
        lacks = "an object that is needed" if count == 1 else f"{count} objects that are needed"
        super().__init__(
            f"{folder} is a partial clone and lacks {lacks}; {remote} does not give that: "
            f"{one_line(reason)}. Check the network and your access, or make the clone whole "
            f"with `{whole}`, and run this again."
        )


def is_partial(objects: Path) -> bool:
    """Whether `objects` is the object database of a partial clone."""
    return any((objects / "pack").glob("*.promisor"))


def fetch_trees(folder: Path, commit: str) -> None:
    """Let git bring all trees of `commit` into the repository of `folder`. Raises CannotFetch."""
    try:
        with network.bounded():
            git.run("ls-tree", "-r", "-t", "-z", "--full-tree", commit, folder=folder)
    except git.GitFailed as error:
        raise CannotFetch(folder, _remote(folder), 1, error.reason) from error


def fetch(oids: Sequence[str], folder: Path) -> None:
    """Bring the objects `oids` into the repository of `folder`, all at once. Raises CannotFetch."""
    remote = _remote(folder)
    # As git itself does it for one object at a time.
    how = ("--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none")
    try:
        with network.bounded():
            git.run(
                *("-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", *how),
                *("--stdin", remote),
                folder=folder,
                env=git.network_environment(),
                stdin="".join(f"{oid}\n" for oid in oids).encode(),
            )
    except git.GitFailed as error:
        raise CannotFetch(folder, remote, len(oids), error.reason) from error


def _remote(folder: Path) -> str:
    """The remote that keeps what the clone lacks."""
    listed = git.output(
        *("config", "--get-regexp", r"^remote\..*\.promisor$"), folder=folder, good=(0, 1)
    )
    for line in listed.decode("utf-8", "replace").splitlines():
        key, _, value = line.rpartition(" ")
        if value == "true":
            return key.removeprefix("remote.").removesuffix(".promisor")
    return "origin"

"""Bare git repositories of Dockyard's own, made without git. Knows git's files alone."""

from pathlib import Path

_FILES = {
    "HEAD": "ref: refs/heads/none\n",
    "config": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
}
_FOLDERS = ("objects/info", "refs/heads")


def make(folder: Path) -> None:
    """Make `folder` an empty bare repository, or mend what it lacks. Raises OSError."""
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in _FILES.items():
        (folder / name).write_text(text, encoding="ascii")


def is_made(folder: Path) -> bool:
    """Whether `folder` has all that `make` gives it, unchanged."""
    try:
        return all(
            (folder / name).read_bytes() == text.encode() for name, text in _FILES.items()
        ) and all((folder / name).is_dir() for name in _FOLDERS)
    except OSError:
        return False

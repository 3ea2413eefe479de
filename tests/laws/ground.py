"""Where scenarios become real: git repositories of a template and of a service.

Knows git and Copier's form of a template; knows nothing of Dockyard.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from tests.laws.model import ANSWERS_FILE, EXECUTABLE, SYMLINK, File, Files, Scenario, Version

_AUTHOR = "Ada <ada@example.com> 1700000000 +0000"
_LANGUAGE = {
    "_subdirectory": "template",
    "_preserve_symlinks": True,
    "_envops": {"keep_trailing_newline": True},
}
_ANSWERS = File(b"{{ _copier_answers | to_nice_yaml -}}\n")


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Standard output of a git command that must succeed."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, input=stdin
    )
    return os.fsdecode(done.stdout)


class Ground:
    """A folder for one scenario after the other. Template and service keep their paths."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.template = folder / "template.git"
        self.service = self.top = folder / "billing-svc"
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(folder / "bare"))
        git(folder, "init", "--quiet", "--initial-branch=main", str(folder / "empty"))

    def lay_out(self, scenario: Scenario) -> None:
        """The template with the releases v1.0.0, v2.0.0 … and the service, committed."""
        self.lay_out_template([_template(version) for version in scenario.versions])
        said = yaml.safe_dump(
            {**self.recorded, **scenario.answers, "service_name": "billing-svc"}
        ).encode()
        self.lay_out_service({**scenario.service, ANSWERS_FILE: File(said)}, scenario.place)

    @property
    def recorded(self) -> Mapping[str, str]:
        """What a service of the first release says of its template."""
        return {"_commit": "v1.0.0", "_src_path": str(self.template)}

    def lay_out_template(self, releases: Iterable[Files]) -> None:
        """A repository in which each of `releases` is a commit with a tag."""
        shutil.rmtree(self.template, ignore_errors=True)
        shutil.copytree(self._folder / "bare", self.template)
        git(self.template, "fast-import", "--quiet", stdin=b"".join(_history(releases)))

    def lay_out_service(self, files: Files, place: str = "") -> None:
        """A repository with one commit of `files`; with `place`, in that folder of a larger one."""
        self.top = self._folder / ("mono" if place else "billing-svc")
        self.service = self.top / place
        shutil.rmtree(self.top, ignore_errors=True)
        shutil.copytree(self._folder / "empty", self.top)
        self.service.mkdir(parents=True, exist_ok=True)
        write(self.service, files)
        if place:
            write(self.top, {"neighbour.txt": File(b"somebody else's\n")})
        self.commit("the team's work")

    def leave_with_remote(self, left_out: str) -> None:
        """Make the repository a partial clone of itself, with `left_out` as git's filter has it."""
        git(self.top, "config", "uploadpack.allowFilter", "true")
        git(self.top, "config", "uploadpack.allowAnySHA1InWant", "true")
        origin = self._folder / "origin"
        shutil.rmtree(origin, ignore_errors=True)
        self.top.rename(origin)
        how = ("clone", "--quiet", f"--filter={left_out}", "--no-checkout", origin.as_uri())
        git(self._folder, *how, str(self.top))
        git(self.top, "sparse-checkout", "set", "--no-cone", f"/{self.prefix}{ANSWERS_FILE}")
        git(self.top, "checkout", "--quiet", "main")

    @property
    def prefix(self) -> str:
        """The service's folder in its repository, with a slash at its end; empty at the top."""
        place = self.service.relative_to(self.top).as_posix()
        return "" if place == "." else f"{place}/"

    def commit(self, message: str) -> None:
        """Commit everything in the service."""
        git(self.top, "add", "--all", "--force")
        git(self.top, "commit", "--quiet", "--allow-empty", "--message", message)

    def files(self, tree: str | None = None) -> Files:
        """The service's files in `tree`, or on the disk; the answers file left out."""
        found = on_disk(self.service) if tree is None else self._in_tree(tree)
        return {path: file for path, file in found.items() if path != ANSWERS_FILE}

    def committed_files(self) -> Files:
        """The service's files once they are committed: attributes may ask git for other endings."""
        self.commit("what is there")
        return self.files("HEAD:./")

    def state(self) -> Mapping[str, object]:
        """What an update must not touch before it succeeds: files, index, refs, leftovers."""
        return {
            "files": on_disk(self.top),
            "index": git(self.top, "ls-files", "--stage", "-z"),
            "refs": git(self.top, "for-each-ref") + git(self.top, "rev-parse", "HEAD"),
            "left over": sorted(
                {"index.lock", "dockyard"} & {path.name for path in (self.top / ".git").iterdir()}
            ),
        }

    def _in_tree(self, tree: str) -> Files:
        listed = git(self.service, "ls-tree", "-r", "-z", "--full-tree", tree).split("\0")[:-1]
        return {
            path: _blob(self.service, meta)
            for meta, path in (line.split("\t", 1) for line in listed)
        }


def _blob(repository: Path, meta: str) -> File:
    mode, _, oid = meta.split(" ")
    done = subprocess.run(
        ["git", "-C", str(repository), "cat-file", "blob", oid], check=True, capture_output=True
    )
    return File(done.stdout, mode)


def write(folder: Path, files: Files) -> None:
    """Put `files` into `folder`."""
    for path, file in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.mode == SYMLINK:
            target.symlink_to(os.fsdecode(file.content))
        else:
            target.write_bytes(file.content)
            target.chmod(0o755 if file.mode == EXECUTABLE else 0o644)


def on_disk(folder: Path) -> dict[str, File]:
    """The files below `folder`, git's own left out."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        for path in (
            Path(place, name)
            for name in [*names, *(name for name in folders if Path(place, name).is_symlink())]
        ):
            found[path.relative_to(folder).as_posix()] = _read(path)
    return found


def _read(path: Path) -> File:
    if path.is_symlink():
        return File(os.fsencode(path.readlink()), SYMLINK)
    return File(path.read_bytes(), EXECUTABLE if path.stat().st_mode & 0o100 else "100644")


def _history(releases: Iterable[Files]) -> Iterator[bytes]:
    """What `git fast-import` reads."""
    for number, files in enumerate(releases, start=1):
        yield (
            f"commit refs/heads/main\ncommitter {_AUTHOR}\n".encode()
            + _data(b"a release")
            + b"deleteall\n"
        )
        for path, file in files.items():
            yield f"M {file.mode} inline {path}\n".encode() + _data(file.content)
        yield f"reset refs/tags/v{number}.0.0\nfrom refs/heads/main\n\n".encode()


def _data(content: bytes) -> bytes:
    return b"data %d\n" % len(content) + content + b"\n"


def _template(version: Version) -> Files:
    questions = {
        name: {"type": "str", "default": default} for name, default in version.questions.items()
    }
    # As in the real template: Copier's updates skip the team's files, and write none twice.
    only_new = "{% if _copier_operation == 'update' %}{{ yours | join('\n') }}{% endif %}"
    config = {
        **_LANGUAGE,
        "service_name": {"type": "str", "default": "example-svc"},
        **questions,
        "yours": {"when": False, "type": "yaml", "default": [*version.yours]},
        "_skip_if_exists": [*version.yours],
        "_exclude": [only_new, ".git"],
    }
    files = {
        "copier.yml": File(yaml.safe_dump(config, sort_keys=False).encode()),
        "template/{{ _copier_conf.answers_file }}.jinja": _ANSWERS,
    }
    for path, file in version.files.items():
        files[f"template/{path}{'.jinja' if file.templated else ''}"] = file
    return files

"""A small template with a list of ownership, and services laid down from it."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dockyard.rendering.render import render
from dockyard.rendering.template import open_template
from tests.generator.lab import Repository, git

QUESTIONS = """\
_subdirectory: template
_templates_suffix: .jinja
_envops: {undefined: jinja2.StrictUndefined, keep_trailing_newline: true}

service_name: {type: str, default: example-svc}
owner:
  type: str
  default: platform
  validator: "{% if owner != owner | lower %}must be lower case{% endif %}"
yours:
  when: false
  type: yaml
  default: &yours
    - /src
    - /README.md
_skip_if_exists: *yours
_exclude: ["{% if _copier_operation == 'update' %}{{ yours | join('\\n') }}{% endif %}", "*.pyc"]
"""
LINES = "".join(f"line {number}\n" for number in range(1, 21))
FILES: Mapping[str, str | bytes] = {
    "copier.yml": QUESTIONS,
    "CHANGELOG.md": "# Changelog\n\n## 1.0.0\n\n- The beginning.\n",
    "template/{{_copier_conf.answers_file}}.jinja": "{{ _copier_answers | to_nice_yaml -}}\n",
    "template/Makefile": LINES,
    "template/tool.ini.jinja": f"# {{{{ owner }}}}\n{LINES}",
    "template/old.cfg": f"old\n{LINES}",
    "template/logo.png": bytes(range(256)) * 4,
    "template/README.md.jinja": "# {{ service_name }}\n",
    "template/src/main.py.jinja": "name = '{{ service_name }}'\n",
    "template/src/extra.py": "extra = 1\n",
}


@dataclass(frozen=True, slots=True)
class Made:
    """A committed service."""

    root: Path

    def write(
        self, files: Mapping[str, str | bytes | None], message: str = "work of the team"
    ) -> None:
        """Write files, None deletes one, and commit."""
        lay_down(self.root, files)
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--allow-empty", f"--message={message}")

    def state(self) -> dict[str, object]:
        """All that an update that must not touch anything must not touch."""
        return {
            "files": contents(self.root),
            "refs": git(self.root, "for-each-ref"),
            "head": git(self.root, "rev-parse", "HEAD"),
            "index": git(self.root, "ls-files", "--stage"),
            "status": git(self.root, "status", "--porcelain"),
            "git": sorted(
                path.name for path in (self.root / ".git").iterdir() if path.name != "dockyard.lock"
            ),
        }


def lay_down(folder: Path, files: Mapping[str, str | bytes | None]) -> None:
    """Write `files` into `folder`; None deletes one."""
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def release(
    repository: Repository, files: Mapping[str, str | bytes | None], tag: str | None = None
) -> str:
    """Commit a change of the template, tag it, and return the commit's id."""
    lay_down(repository.path, files)
    return repository.commit({}, tag)


def lay_down_service(
    repository: Repository, root: Path, ref: str | None = None, **answers: str
) -> Made:
    """A committed service at `root`, rendered as bare Copier renders it."""
    render_into(repository, root, ref, **answers)
    git(root, "init", "--quiet")
    made = Made(root)
    made.write({}, "rendered")
    return made


def render_into(repository: Repository, root: Path, ref: str | None = None, **answers: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        answers = {"service_name": root.name, **answers}
        render(
            open_template(str(repository.path), ref),
            answers,
            root,
            ask=False,
            scratch=Path(scratch),
        )


def fresh(
    repository: Repository, root: Path, ref: str | None = None, **answers: str
) -> dict[str, tuple[str, bytes]]:
    """The contents of a fresh render, which is removed again."""
    render_into(repository, root, ref, **answers)
    found = contents(root)
    shutil.rmtree(root)
    return found


def contents(root: Path) -> dict[str, tuple[str, bytes]]:
    """Every file below `root` but git's: its kind, and what it holds or points to."""
    found = {}
    for folder, folders, files in os.walk(root):
        if ".git" in folders:
            folders.remove(".git")
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            path = Path(folder, name)
            where = path.relative_to(root).as_posix()
            if path.is_symlink():
                found[where] = ("link", os.fsencode(path.readlink()))
            elif name != ".git":
                found[where] = ("run" if os.access(path, os.X_OK) else "file", path.read_bytes())
    return found


def branch(root: Path, name: str, into: Path) -> dict[str, tuple[str, bytes]]:
    """The contents of a branch, checked out beside."""
    git(root, "worktree", "add", "--quiet", "--detach", str(into), name)
    return contents(into)

"""Throw-away templates, and what a command left."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

COPIER_YML = """\
_subdirectory: template
_envops: {undefined: jinja2.StrictUndefined}

service_name: {type: str, default: example-svc}
owner:
  type: str
  default: platform
  validator: "{% if owner != owner | lower %}must be lower case{% endif %}"
bus:
  type: str
  default: rabbitmq
  choices: [rabbitmq, nats]
package:
  type: str
  when: false
  default: "{{ service_name | replace('-', '_') }}"
"""
FILES = {
    "copier.yml": COPIER_YML,
    "template/{{_copier_conf.answers_file}}.jinja": "{{ _copier_answers | to_nice_yaml -}}\n",
    "template/pyproject.toml.jinja": (
        '[project]\nname = "{{ package }}"\nversion = "0"\nrequires-python = ">=3.11"\n'
    ),
    "template/release.txt": "one\n",
    "template/.gitignore": "*.log\n",
}


def git(folder: Path, *arguments: str) -> str:
    """Standard output of a git command that must succeed."""
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout


def listing(folder: Path) -> list[str]:
    """Every path below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@dataclass(frozen=True, slots=True)
class Repository:
    """A template's git repository."""

    path: Path

    def commit(self, files: Mapping[str, str], tag: str | None = None) -> str:
        """Commit `files`, tag the commit, and return its id."""
        for name, text in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--message=a change")
        if tag:
            git(self.path, "tag", tag)
        return git(self.path, "rev-parse", "HEAD").strip()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


Dockyard = Callable[..., Ran]

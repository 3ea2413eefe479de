"""Renders a template: into a folder, or into a git tree of the cache.

Knows which inputs make two renders the same; knows nothing of names, locking or what happens to a
render afterwards. How Copier is called is in `copying`.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from dockyard.answers import Recorded, parsed
from dockyard.programs import git
from dockyard.programs.cache import CannotCache, cache_folder
from dockyard.programs.scratch import scratch_folder, write_whole
from dockyard.rendering import copying
from dockyard.rendering.copying import BadAnswer
from dockyard.rendering.skeleton import Skeleton, prepare
from dockyard.rendering.template import Template, recorded_version

# A new number when the same inputs would be rendered otherwise than before.
_FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Render:
    """The files that a version of a template makes of a service's answers."""

    tree: str
    """Id of the git tree, in the repository `store()`."""
    answers: Mapping[str, Any]
    """What the service records: an answer for each question that is asked."""


def render(
    template: Template, answers: Mapping[str, str], into: Path, *, ask: bool, scratch: Path
) -> None:
    """Render `template` with `answers` into the new folder `into`; `ask` prompts for the others.

    `scratch` is a folder of this render alone, for Copier's cache: processes that share one trip
    over each other. Raises BadAnswer if the template refuses an answer, RenderFailed if the
    template is at fault, ToolFailed if git cannot check it out, OSError if the disk refuses.
    """
    env = copying.with_mirror(template) | {"COPIER_CACHE_DIR": str(scratch)}
    with copying.surroundings(env):
        copying.copy(
            template,
            template.source.recorded,
            into,
            answers,
            # A commit's id lets Copier render the committed state, never a working tree.
            vcs_ref=template.commit,
            defaults=not ask,
        )
    # Copier may take another tag of the same commit, such as one that moves.
    precise = {"_commit": template.tag} if template.tag else {}
    copying.record(template, into / template.answers_file, precise)


def render_tree(
    template: Template, recorded: Recorded, name: str, data: Mapping[str, Any] | None = None
) -> Render:
    """The render of `template` for a service in a folder called `name`, cached.

    `data` answers questions first, then what is `recorded`, then the template's defaults. The
    user's settings of Copier do not count, so that every machine renders the same. The render
    records the source as `recorded` has it. Raises as `render` does, with CannotCache instead of
    OSError; BadAnswer also if the template no longer accepts a recorded answer.
    """
    kept = {key: value for key, value in recorded.answers.items() if key in template.questions}
    known = replace(recorded, answers=kept)
    key = _key(template, known, name, data or {})
    entry = cache_folder("renders") / f"{key}.json"
    found = _cached(entry)
    if found is None:
        found = _put(entry, template, known, name, data or {})
    tree, text = found
    answers = {key: value for key, value in parsed(text).items() if not key.startswith("_")}
    for question, answer in kept.items():
        # Copier takes the default in silence. If only the type changed, it was not refused.
        if (
            question not in (data or {})
            and question in answers
            and str(answers[question]) != str(answer)
        ):
            raise BadAnswer(
                question,
                f"{answer!r}, recorded by this service, is not allowed in {template.version}",
            )
    return Render(tree=tree, answers=answers)


def store() -> Path:
    """The bare repository of all renders. Raises CannotCache and GitFailed."""
    folder = cache_folder("renders") / "objects.git"
    if folder.is_dir() and not (folder / "HEAD").is_file():
        # Somebody deleted its files and left the folders.
        _make_repository(folder)
    if not folder.is_dir():
        with scratch_folder(".making-", folder.parent) as workshop:
            made = workshop / "made"
            _make_repository(made)
            try:
                made.rename(folder)
            except OSError:
                # Another process was faster.
                if not folder.is_dir():
                    raise
    return folder


def _make_repository(folder: Path) -> None:
    init = ("init", "--quiet", "--bare", str(folder))
    git.run(*init, folder=folder.parent, env=git.isolated_environment())


def _put(
    entry: Path, template: Template, recorded: Recorded, name: str, data: Mapping[str, Any]
) -> tuple[str, str]:
    """A new render, which `entry` of the cache is from now on."""
    try:
        with scratch_folder(".rendering-", entry.parent) as folder:
            found = _rendered(template, recorded, folder / "out" / name, data)
            write_whole(entry, json.dumps(found).encode())
    except OSError as error:
        raise CannotCache(entry.parent, error) from error
    return found


def _rendered(
    template: Template, recorded: Recorded, out: Path, data: Mapping[str, Any]
) -> tuple[str, str]:
    """A new render in the store, and the text of its answers file."""
    skeleton = prepare(template)
    if skeleton is None or not _assembled(template, skeleton, recorded, out, data):
        shutil.rmtree(out, ignore_errors=True)
        _render_whole(template, recorded, out, data)
    env = git.isolated_environment() | {
        "GIT_DIR": str(store()),
        "GIT_INDEX_FILE": str(out.parent.parent / "index"),
    }
    git.run(f"--work-tree={out}", "add", "--all", folder=out, env=env)
    tree = git.run("write-tree", folder=out, env=env).strip()
    return tree, (out / recorded.file).read_text(encoding="utf-8")


def _render_whole(
    template: Template, recorded: Recorded, out: Path, data: Mapping[str, Any]
) -> None:
    """Render every file of `template` into `out` by Copier."""
    copying.seed(recorded, out)
    cache = {"COPIER_CACHE_DIR": str(out.parent.parent / "copier")}
    with copying.surroundings(copying.with_mirror(template) | cache):
        source = template.source.recorded
        copying.copy_again(template, source, out, data, recorded, vcs_ref=template.commit)
    copying.record(template, out / recorded.file, _origin(template, recorded))


def _assembled(
    template: Template, skeleton: Skeleton, recorded: Recorded, out: Path, data: Mapping[str, Any]
) -> bool:
    """Render the skeleton into `out` and lay the plain files beside; False if they do not fit."""
    copying.seed(recorded, out)
    nothing = out.parent.parent / "bin"
    nothing.mkdir(exist_ok=True)
    # A plain folder needs no git, and Copier that finds none asks it nothing for each file.
    with copying.surroundings(os.environ | {"PATH": str(nothing)}):
        copying.copy_again(template, str(skeleton.templated), out, data, recorded)
    answers_file = out / recorded.file
    said = parsed(answers_file.read_text(encoding="utf-8"))
    if said.get("_src_path") != str(skeleton.templated):
        return False
    copying.record(template, answers_file, _origin(template, recorded))
    for folder, _, files in os.walk(skeleton.plain):
        target = out / Path(folder).relative_to(skeleton.plain)
        target.mkdir(exist_ok=True)
        for file in files:
            if os.path.lexists(target / file):
                return False
            shutil.copy(Path(folder, file), target / file)
    return True


def _origin(template: Template, recorded: Recorded) -> dict[str, str]:
    """What a render says of where it is from."""
    return {"_commit": recorded_version(template), "_src_path": recorded.source}


def _key(template: Template, recorded: Recorded, name: str, data: Mapping[str, Any]) -> str:
    """What a render depends on, in one word."""
    said = [template.commit, recorded_version(template), recorded.source, recorded.file, name]
    said += [
        yaml.safe_dump(dict(answers), allow_unicode=True) for answers in (recorded.answers, data)
    ]
    said += [_FORMAT, metadata.version("copier"), metadata.version("jinja2")]
    return sha256(json.dumps(said).encode()).hexdigest()


def _cached(entry: Path) -> tuple[str, str] | None:
    try:
        tree, text = json.loads(entry.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    # One may be deleted without the other. A tree is stored last, and loose: nothing packs it.
    return (str(tree), str(text)) if (store() / "objects" / tree[:2] / tree[2:]).is_file() else None

"""Renders a template: into a folder, or into a git tree of the cache.

Knows which inputs make two renders the same; knows nothing of names, locking or what happens to a
render afterwards. How Copier is called is in `copying`.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from dockyard.answers import Recorded, parsed
from dockyard.errors import DockyardError
from dockyard.programs import git
from dockyard.programs.cache import BrokenCache, CannotCache, cache_folder
from dockyard.programs.scratch import scratch_folder, write_whole
from dockyard.rendering import copying
from dockyard.rendering.copying import BadAnswer
from dockyard.rendering.render_cache import is_whole, look_again, store
from dockyard.rendering.skeleton import Skeleton, prepare
from dockyard.rendering.template import Template, recorded_version

# A new number when the same inputs would be rendered otherwise than before.
_FORMAT = "2"
_TRIES = 3
_LEVELS = 32
"""Folders within folders: no service has so many."""
_used: set[str] = set()
"""Trees that this process has given out."""


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

    `data` answers questions first, then what is `recorded`, then the template's defaults, which may
    be made of answers to questions that are no more. The
    user's settings of Copier do not count, so that every machine renders the same. The render
    records the source as `recorded` has it. Raises as `render` does, with CannotCache instead of
    OSError; BadAnswer also if the template no longer accepts a recorded answer.
    """
    kept = {key: value for key, value in recorded.answers.items() if key in template.questions}
    key = _key(template, recorded, name, data or {})
    entry = cache_folder("renders") / f"{key}.json"
    found = _cached(entry)
    if found is None:
        found = _put(entry, template, recorded, name, data or {})
    tree, text = found
    _used.add(tree)
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


def _put(
    entry: Path, template: Template, recorded: Recorded, name: str, data: Mapping[str, Any]
) -> tuple[str, str]:
    """A new render, which `entry` of the cache is from now on."""
    try:
        with scratch_folder(".rendering-", entry.parent) as folder:
            found = _rendered(template, recorded, folder / "out" / name, data)
            # Its digest tells a torn entry, so nothing waits for the disk.
            said = json.dumps([*found, _digest(entry, *found)]).encode()
            write_whole(entry, said, is_durable=False)
    except OSError as error:
        raise CannotCache(entry.parent, error) from error
    return found


def _rendered(
    template: Template, recorded: Recorded, out: Path, data: Mapping[str, Any]
) -> tuple[str, str]:
    """A new render in the store, and the text of its answers file."""
    if not _render_skeleton(template, recorded, out, data):
        shutil.rmtree(out, ignore_errors=True)
        _render_whole(template, recorded, out, data)
    return _stored(out), (out / recorded.file).read_text(encoding="utf-8")


def _stored(out: Path) -> str:
    """Id of the tree of the folder `out`, put into the store. Raises BrokenCache."""
    for number in range(_LEVELS):
        index = out.parent.parent / f"index-{number}"
        env = git.isolated_environment() | {"GIT_DIR": str(store()), "GIT_INDEX_FILE": str(index)}
        git.run(f"--work-tree={out}", "add", "--all", folder=out, env=env)
        tree = git.run("write-tree", folder=out, env=env).strip()
        # Git writes no object that it has, even if that is damaged. `is_whole` deletes damaged
        # ones; below a damaged folder it sees nothing, so each folder may take a round.
        if is_whole(tree):
            return tree
    raise BrokenCache(store(), "its objects are damaged again and again")


def _render_skeleton(
    template: Template, recorded: Recorded, out: Path, data: Mapping[str, Any]
) -> bool:
    """Render `template` into `out` by its skeleton; False if it is not separable.

    A cleaner may delete files of the cache meanwhile: the result counts if all were there after it.
    """
    for _ in range(_TRIES):
        skeleton = prepare(template)
        if skeleton is None:
            return False
        try:
            is_assembled = _assembled(template, skeleton, recorded, out, data)
        except (DockyardError, OSError):
            if skeleton.is_whole:
                raise
            is_assembled = False
        if skeleton.is_whole:
            return is_assembled
        shutil.rmtree(out, ignore_errors=True)
    raise BrokenCache(cache_folder("checkouts"), "files vanish from it while it is used")


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


def _digest(entry: Path, tree: str, text: str) -> str:
    """What an entry of the cache must say of itself to count."""
    return sha256(json.dumps([entry.name, tree, text]).encode()).hexdigest()


def _cached(entry: Path) -> tuple[str, str] | None:
    """What `entry` says, if it is as it was written and the store has its tree whole."""
    try:
        tree, text, digest = map(str, json.loads(entry.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return (tree, text) if digest == _digest(entry, tree, text) and is_whole(tree) else None


def forget_damaged() -> bool:
    """Whether a render that this process has given out is damaged. The next use makes it again."""
    look_again()
    damaged = [tree for tree in _used if not is_whole(tree)]
    _used.clear()
    return bool(damaged)

"""Renders a template with Copier's public API: into a folder, or into a git tree of the cache.

Knows Copier's traps and keeps them here; knows nothing of names, locking or what happens to a render afterwards.
Copier changes the working directory, so a process renders one template at a time: parallel work takes processes.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from dockyard.errors import BadAnswer, CannotCache, DockyardError, RenderFailed, ToolFailed
from dockyard.programs import git
from dockyard.programs.scratch import scratch
from dockyard.rendering.skeleton import Skeleton, prepare
from dockyard.rendering.source import cache
from dockyard.rendering.template import Template, recorded_version

_REFUSED = re.compile(
    r"(?:Validation error for question|Invalid choice for|Question) ['\"](\w+)['\"]:? (.*)",
    re.DOTALL,
)
# Another one when the same inputs would be rendered otherwise than before.
_FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Render:
    """The files that a version of a template makes of a service's answers."""

    tree: str
    """Id of the git tree, in the repository `store()`."""
    answers: Mapping[str, Any]
    """What is recorded: an answer for each question that is asked."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a service's answers file says."""

    source: str
    """The template's address, `_src_path`."""
    version: str
    """The template's version, `_commit`."""
    answers: Mapping[str, Any]
    file: str = ".copier-answers.yml"
    """Where it lies, relative to the service."""


def render(
    template: Template, answers: Mapping[str, str], into: Path, *, ask: bool, scratch: Path
) -> None:
    """Render `template` with `answers` into the new folder `into`; `ask` prompts on the terminal for the others.

    `scratch` is a folder of this render alone for Copier's cache: in a shared one, processes trip over each other.
    Raises BadAnswer when the template refuses an answer, RenderFailed when it is at fault itself, ToolFailed when git
    cannot check it out, OSError when the disk refuses.
    """
    with _surroundings(_with_mirror(template) | {"COPIER_CACHE_DIR": str(scratch)}):
        # A commit's id: Copier renders the committed state then, never a working tree.
        _copy(
            template,
            template.source.recorded,
            into,
            answers,
            vcs_ref=template.commit,
            defaults=not ask,
        )
    # Where Copier took another tag of the same commit, such as one that moves, the most precise one is recorded.
    _record(
        template, into / template.answers_file, {"_commit": template.tag} if template.tag else {}
    )


def render_tree(
    template: Template, recorded: Recorded, name: str, data: Mapping[str, Any] | None = None
) -> Render:
    """The render of `template` for a service in a folder called `name`, from the cache or put there.

    Questions are answered by `data`, else by what is `recorded`, else by the template's defaults; the user's settings
    of Copier have no say, so that every machine renders the same. The render records the source as it is recorded.
    Raises what `render` raises, BadAnswer also for a recorded answer that the template does not accept any more, and
    CannotCache instead of OSError.
    """
    kept = {key: value for key, value in recorded.answers.items() if key in template.questions}
    known = replace(recorded, answers=kept)
    key = _key(template, known, name, data or {})
    entry = cache("renders") / f"{key}.json"
    found = _cached(entry)
    if found is None:
        found = _put(entry, template, known, name, data or {})
    tree, text = found
    answers = {key: value for key, value in _parsed(text).items() if not key.startswith("_")}
    for question, answer in kept.items():
        # Copier takes the default in silence; and what changes only its type was not refused.
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
    folder = cache("renders") / "objects.git"
    if folder.is_dir() and not (folder / "HEAD").is_file():
        # What is left of one whose files somebody deleted.
        git.run(
            "init",
            "--quiet",
            "--bare",
            str(folder),
            folder=folder.parent,
            env=git.isolated_environment(),
        )
    if not folder.is_dir():
        with scratch(".making-", folder.parent) as workshop:
            made = workshop / "made"
            git.run(
                "init",
                "--quiet",
                "--bare",
                str(made),
                folder=folder.parent,
                env=git.isolated_environment(),
            )
            try:
                made.rename(folder)
            except OSError:
                # Another process was faster.
                if not folder.is_dir():
                    raise
    return folder


def _put(
    entry: Path, template: Template, recorded: Recorded, name: str, data: Mapping[str, Any]
) -> tuple[str, str]:
    """A new render, which `entry` of the cache is from now on."""
    try:
        with scratch(".rendering-", entry.parent) as folder:
            found = _rendered(template, recorded, folder / "out" / name, data)
            draft = folder / "entry.json"
            draft.write_text(json.dumps(found), encoding="utf-8")
            draft.replace(entry)
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
        _seed(recorded, out)
        scratch = out.parent.parent / "copier"
        with _surroundings(_with_mirror(template) | {"COPIER_CACHE_DIR": str(scratch)}):
            _copy_again(
                template, template.source.recorded, out, data, recorded, vcs_ref=template.commit
            )
        _record(
            template,
            out / recorded.file,
            {"_commit": recorded_version(template), "_src_path": recorded.source},
        )
    env = git.isolated_environment() | {
        "GIT_DIR": str(store()),
        "GIT_INDEX_FILE": str(out.parent.parent / "index"),
    }
    git.run(f"--work-tree={out}", "add", "--all", folder=out, env=env)
    tree = git.run("write-tree", folder=out, env=env).strip()
    return tree, (out / recorded.file).read_text(encoding="utf-8")


def _assembled(
    template: Template, skeleton: Skeleton, recorded: Recorded, out: Path, data: Mapping[str, Any]
) -> bool:
    """Render the skeleton into `out` and lay the plain files beside; False when the two do not fit together."""
    _seed(recorded, out)
    nothing = out.parent.parent / "bin"
    nothing.mkdir(exist_ok=True)
    # A plain folder needs no git, and Copier that finds none asks it nothing for each file.
    with _surroundings(os.environ | {"PATH": str(nothing)}):
        _copy_again(template, str(skeleton.templated), out, data, recorded)
    answers_file = out / recorded.file
    if _parsed(answers_file.read_text(encoding="utf-8")).get("_src_path") != str(
        skeleton.templated
    ):
        return False
    _record(
        template,
        answers_file,
        {"_commit": recorded_version(template), "_src_path": recorded.source},
    )
    for folder, _, files in os.walk(skeleton.plain):
        target = out / Path(folder).relative_to(skeleton.plain)
        target.mkdir(exist_ok=True)
        for file in files:
            if os.path.lexists(target / file):
                return False
            shutil.copy(Path(folder, file), target / file)
    return True


def _seed(recorded: Recorded, out: Path) -> None:
    """Give the empty folder of a render the recorded answers, as an update finds them."""
    answers_file = out / recorded.file
    answers_file.parent.mkdir(parents=True)
    said = {**recorded.answers, "_commit": recorded.version, "_src_path": recorded.source}
    answers_file.write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")


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
    # The one may be deleted without the other. A tree is stored last, and loose: nothing packs the store.
    return (str(tree), str(text)) if (store() / "objects" / tree[:2] / tree[2:]).is_file() else None


def _copy_again(
    template: Template,
    source: str,
    into: Path,
    data: Mapping[str, Any],
    recorded: Recorded,
    **options: Any,
) -> None:
    """As `_copy`, for a service whose recorded answers are in `into` already."""
    from copier import Settings  # noqa: PLC0415 - as in _copy

    _copy(
        template,
        source,
        into,
        data,
        answers_file=recorded.file,
        defaults=True,
        overwrite=True,
        settings=Settings(),
        **options,
    )


def _copy(
    template: Template, source: str, into: Path, answers: Mapping[str, Any], **options: Any
) -> None:
    import copier  # noqa: PLC0415 - a third of a second that other commands need not wait for
    from plumbum import ProcessExecutionError  # noqa: PLC0415 - Copier brings it

    from dockyard.rendering.compiling import compiled_once  # noqa: PLC0415 - Jinja takes its time too

    try:
        with compiled_once():
            copier.run_copy(
                source, into, dict(answers), cleanup_on_error=False, quiet=True, **options
            )
    except ProcessExecutionError as error:
        reason = error.stderr.strip() or f"git ended with status {error.retcode}"
        raise ToolFailed(f"check out the template {template.source.recorded}", reason) from error
    except (KeyboardInterrupt, OSError):
        # Copier's interrupt is an Exception too; and what the disk refuses, the caller can place.
        raise
    except Exception as error:
        # Copier raises far more than its own errors: Jinja's, YAML's, bare ValueErrors for refused answers.
        raise _translated(error, template) from error


def _translated(error: Exception, template: Template) -> DockyardError:
    if type(error) is ValueError:
        question, reason = (
            matched.groups() if (matched := _REFUSED.fullmatch(str(error))) else (None, str(error))
        )
        return BadAnswer(question, reason)
    return RenderFailed(
        template.source.recorded, template.version, str(error) or type(error).__name__
    )


def _record(template: Template, answers_file: Path, values: Mapping[str, str]) -> None:
    """Make the answers file say `values`, in the form that Copier gives them."""
    try:
        text = answers_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    said = _parsed(text)
    if "_src_path" not in said or "_commit" not in {*said, *values}:
        raise RenderFailed(
            template.source.recorded,
            template.version,
            f"it writes no {answers_file.name} with _commit in it, so that the service could never be updated",
        )
    for key, value in values.items():
        if said.get(key) != value:
            line = yaml.safe_dump({key: value}, allow_unicode=True)
            # A long value goes on in indented lines.
            pattern = rf"^{key}:.*\n(?: .*\n)*" if key in said else r"^(?=_src_path:)"
            text = re.sub(pattern, line.replace("\\", r"\\"), text, count=1, flags=re.MULTILINE)
    if values:
        answers_file.write_text(text, encoding="utf-8")


def _parsed(text: str) -> dict[str, Any]:
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return {str(key): value for key, value in said.items()} if isinstance(said, dict) else {}


def _with_mirror(template: Template) -> dict[str, str]:
    """The environment in which Copier clones from the mirror, without the network, and still records the address."""
    source = template.source
    config = {} if source.url is None else {f"url.{source.repository}.insteadOf": source.url}
    return git.isolated_environment(config)


@contextmanager
def _surroundings(env: Mapping[str, str]) -> Iterator[None]:
    """Make `env` this process's environment, for Copier and for the programs it starts."""
    from plumbum import local  # noqa: PLC0415 - Copier brings it

    ours = dict(os.environ)
    # Copier's programs get plumbum's copy of the environment, taken when it was imported.
    with local.env(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for environment in (os.environ, local.env):
                environment.clear()
                environment.update(env)
            yield
        finally:
            os.environ.clear()
            os.environ.update(ours)

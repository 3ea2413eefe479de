"""Splits a template, at one commit, into what depends on answers and what every service gets as is.

Most files of a template are only copied, yet Copier looks at each as closely as at a templated one.
A separable template is checked out once: its plain files in one folder, and the rest, the
skeleton, in another that Copier renders. The split is made only where it provably changes nothing;
in doubt Copier renders the whole template. Knows Copier's rules of rendering; knows nothing of
services.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from posixpath import normpath
from typing import Any
from unicodedata import normalize

from pathspec import PathSpec

from dockyard.programs import git
from dockyard.programs.cache import CannotCache, cache_folder
from dockyard.programs.scratch import scratch_folder
from dockyard.rendering.template import Template

_LAYOUT = "3"
_DIGEST = "digest"
_DEFAULT_SUFFIX = ".jinja"
# Settings that reach further than one file.
_UNSEPARABLE = frozenset(
    {"_external_data", "_jinja_extensions", "_migrations", "_secret_questions", "_tasks"}
)
# Where the template is, and its commit: the skeleton would answer otherwise.
_COPIER_WORD = re.compile(
    r"(?<![A-Za-z0-9])_(?:copier_\w+(?:\.\w+)?|commit|src_path|external_data)\b"
)
_HARMLESS = frozenset({"_copier_conf.answers_file", "_copier_conf.data", "_copier_operation"})
_REACHES_OUT = re.compile(r"\{%[-+]?\s*(?:include|import|from|extends|yield)\b")
_ANSWERS_TEMPLATE = re.compile(
    r"(?:#[^\n{]*\n|\n)*\{\{-?\s*_copier_answers\s*\|\s*to_nice_yaml\s*-?\}\}\s*"
)
_ONLY_FOR_UPDATES = re.compile(
    r"\{% if _copier_operation == 'update' %\}((?!\{% e).)*\{% endif %\}", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A separable template, checked out."""

    templated: Path
    """A template of its own: copier.yml and everything that depends on answers."""
    plain: Path
    """The other files, where a service has them."""

    @property
    def is_whole(self) -> bool:
        """Whether all files are as they were laid out. A cleaner of old files may delete some."""
        return _is_whole(self.templated.parent)


def prepare(template: Template) -> Skeleton | None:
    """The two folders of `template`, from the cache or put there; None if it is not separable.

    Raises CannotCache and GitFailed.
    """
    folder = cache_folder("checkouts") / f"{template.commit}-{_LAYOUT}"
    if not _is_whole(folder):
        _remove(folder)
        _lay_out(template, folder)
    skeleton = Skeleton(folder / "templated", folder / "plain")
    return skeleton if skeleton.templated.is_dir() and skeleton.plain.is_dir() else None


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / _DIGEST).read_text(encoding="ascii") == _digest(folder)
    except OSError:
        return False


def _digest(folder: Path) -> str:
    """One word for all files in `folder`: names, contents and whether they can be executed."""
    found = sha256()
    for path in sorted(folder.rglob("*")):
        if path.name != _DIGEST or path.parent != folder:
            kind = "folder" if path.is_dir() else "run" if os.access(path, os.X_OK) else "file"
            found.update(f"{kind} {path.relative_to(folder)}\0".encode("utf-8", "surrogateescape"))
            if kind != "folder":
                found.update(sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _remove(folder: Path) -> None:
    """Delete a damaged checkout. It is moved away first, so that no process sees half of it."""
    if folder.is_dir():
        with suppress(OSError), scratch_folder(".removing-", folder.parent) as bin_:
            folder.rename(bin_ / "damaged")


def _lay_out(template: Template, folder: Path) -> None:
    try:
        with scratch_folder(".making-", folder.parent) as workshop:
            made = workshop / "made"
            _check_out(template, made / "templated")
            if _is_separable(template, made / "templated"):
                _move_plain_files(template, made)
            else:
                shutil.rmtree(made / "templated")
            (made / "index").unlink(missing_ok=True)
            (made / _DIGEST).write_text(_digest(made), encoding="ascii")
            try:
                made.rename(folder)
            except OSError:
                # Another process was faster, and what it made is the same.
                if not folder.is_dir():
                    raise
    except OSError as error:
        raise CannotCache(folder.parent, error) from error


def _check_out(template: Template, into: Path) -> None:
    """What a render of a separable template can see, and what tells whether it is one."""
    into.mkdir(parents=True)
    env = git.isolated_environment() | {"GIT_INDEX_FILE": str(into.parent / "index")}
    repository = template.source.repository
    git.run("read-tree", template.commit, folder=repository, env=env)
    rendered, suffix = (
        f"{normpath(str(template.config.get('_subdirectory', '')))}/",
        _suffix(template.config),
    )
    names = git.run("ls-files", "-z", "--full-name", folder=repository, env=env).split("\0")[:-1]
    wanted = [
        name
        for name in names
        # Questions may be included from any folder.
        if name.startswith(rendered) or name.endswith((suffix, ".yml", ".yaml")) or "/" not in name
    ]
    listed = os.fsencode("".join(f"{name}\0" for name in wanted))
    git.run(
        f"--work-tree={into}",
        "checkout-index",
        "-z",
        "--stdin",
        folder=repository,
        env=env,
        stdin=listed,
    )


def _is_separable(template: Template, checkout: Path) -> bool:
    config = template.config
    root = checkout / str(config.get("_subdirectory", ""))
    envops = config.get("_envops") or {}
    plain_settings = (
        root != checkout
        and root.is_dir()
        and not _UNSEPARABLE.intersection(config)
        # Other delimiters would make this module's patterns blind.
        and isinstance(envops, dict)
        and not any(key.endswith(("_string", "_prefix")) for key in envops)
        and _suffix(config) != ""
        and not {"{", "/"}.intersection(template.answers_file)
        and "{" not in str(config["_subdirectory"])
    )
    return (
        plain_settings
        and _exclusions(config) is not None
        and not (checkout / ".gitmodules").exists()
        and not any(path.is_symlink() for path in checkout.rglob("*"))
        and all(map(_says_the_same_alone, _texts(config, root)))
    )


def _texts(config: Mapping[str, Any], root: Path) -> Iterator[str]:
    """All that Jinja reads of the template, except an answers file of the common form."""
    # Messages are shown, not rendered into a service.
    yield from _strings(
        {key: value for key, value in config.items() if not key.startswith("_message_")}
    )
    for path in root.rglob("*"):
        yield path.relative_to(root).as_posix()
        if path.name.endswith(_suffix(config)) and path.is_file():
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            if not _ANSWERS_TEMPLATE.fullmatch(text):
                yield text


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _says_the_same_alone(text: str) -> bool:
    """Whether the Jinja in `text` reads no other file and asks nothing about the template."""
    from jinja2 import Environment, TemplateSyntaxError  # noqa: PLC0415 - needed once for each commit of a template

    try:
        tokens = list(Environment(autoescape=False).lex(text))  # noqa: S701 - nothing is rendered
    except TemplateSyntaxError:
        return False
    spoken = "".join(value for _, kind, value in tokens if kind not in {"data", "comment"})
    return not _REACHES_OUT.search(spoken) and _HARMLESS.issuperset(_COPIER_WORD.findall(spoken))


def _suffix(config: Mapping[str, Any]) -> str:
    suffix = config.get("_templates_suffix")
    return _DEFAULT_SUFFIX if suffix is None else str(suffix)


def _exclusions(config: Mapping[str, Any]) -> PathSpec[Any] | None:
    """What Copier leaves out of a new service; None if that depends on answers."""
    patterns: list[str] = []
    for pattern in map(str, config.get("_exclude", ())):
        if "{" not in pattern:
            patterns.append(pattern)
        elif not _ONLY_FOR_UPDATES.fullmatch(pattern):
            return None
    return PathSpec.from_lines("gitignore", [normalize("NFD", pattern) for pattern in patterns])


def _move_plain_files(template: Template, made: Path) -> None:
    suffix = _suffix(template.config)
    excluded = _exclusions(template.config)
    checkout, plain = made / "templated", made / "plain"
    root = checkout / str(template.config["_subdirectory"])
    plain.mkdir()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        is_templated = (
            "{" in name or name.endswith(suffix) or template.answers_file in name.split("/")
        )
        has_templated_twin = any(
            (folder / f"{name}{suffix}").exists() for folder in (root, checkout)
        )
        if path.is_dir() or is_templated or has_templated_twin:
            continue
        if excluded is None or excluded.match_file(name):
            path.unlink()
        else:
            (plain / name).parent.mkdir(parents=True, exist_ok=True)
            path.rename(plain / name)
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        # Copier looks at folders too, and git knows no empty ones.
        if not any(folder.iterdir()):
            folder.rmdir()

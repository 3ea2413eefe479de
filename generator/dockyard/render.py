"""Renders a template with Copier's public API into a folder.

Knows Copier's traps and keeps them here; knows nothing of names, locking or what happens to the folder afterwards.
Copier changes the working directory, so a process renders one template at a time: parallel work takes processes.
"""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from dockyard import git
from dockyard.errors import BadAnswer, DockyardError, RenderFailed, ToolFailed
from dockyard.template import Template

_REFUSED = re.compile(
    r"(?:Validation error for question|Invalid choice for|Question) ['\"](\w+)['\"]:? (.*)", re.DOTALL
)
_RECORDED_VERSION = re.compile(r"^_commit: .*$", re.MULTILINE)


def render(template: Template, answers: Mapping[str, str], into: Path, *, ask: bool, scratch: Path) -> None:
    """Render `template` with `answers` into the new folder `into`; `ask` prompts on the terminal for the others.

    `scratch` is a folder of this render alone for Copier's cache: in a shared one, processes trip over each other.
    Raises BadAnswer when the template refuses an answer, RenderFailed when it is at fault itself, ToolFailed when git
    cannot check it out, OSError when the disk refuses.
    """
    config = {}
    if template.source.url is not None:
        # Copier then clones from the mirror, without the network, and still records the address.
        config[f"url.{template.source.repository}.insteadOf"] = template.source.url
    with _surroundings(git.isolated_environment(config) | {"COPIER_CACHE_DIR": str(scratch)}):
        _copy(template, answers, into, ask=ask)
    _record_version(template, into)


def _copy(template: Template, answers: Mapping[str, str], into: Path, *, ask: bool) -> None:
    import copier  # noqa: PLC0415 - a third of a second that other commands need not wait for
    from plumbum import ProcessExecutionError  # noqa: PLC0415 - Copier brings it

    try:
        copier.run_copy(
            template.source.recorded,
            into,
            dict(answers),
            # A commit's id: Copier renders the committed state then, never a working tree.
            vcs_ref=template.commit,
            defaults=not ask,
            cleanup_on_error=False,
            quiet=True,
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
        question, reason = matched.groups() if (matched := _REFUSED.fullmatch(str(error))) else (None, str(error))
        return BadAnswer(question, reason)
    return RenderFailed(template.source.recorded, template.version, str(error) or type(error).__name__)


def _record_version(template: Template, service: Path) -> None:
    """Make the answers file name the precise version, where Copier took another tag of the same commit for it."""
    answers_file = service / template.answers_file
    try:
        text = answers_file.read_text(encoding="utf-8")
        recorded = yaml.safe_load(text)["_commit"]
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise RenderFailed(
            template.source.recorded,
            template.version,
            f"it writes no {template.answers_file} with _commit in it, so that the service could never be updated",
        ) from error
    if template.tag is not None and recorded != template.tag:
        line = yaml.safe_dump({"_commit": template.tag}).strip()
        answers_file.write_text(_RECORDED_VERSION.sub(line, text, count=1), encoding="utf-8")


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

"""Calls Copier, works around its traps and translates its errors.

Copier changes the working directory, so a process renders one template at a time: parallel work
takes processes. Knows nothing of the cache, or of what happens to a render afterwards.
"""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dockyard.answers import Recorded, parsed
from dockyard.errors import DockyardError, ToolFailed, one_line
from dockyard.programs import git
from dockyard.rendering.template import Template

_REFUSED = re.compile(
    r"(?:Validation error for question|Invalid choice for|Question) ['\"](\w+)['\"]:? (.*)",
    re.DOTALL,
)


class BadAnswer(DockyardError):
    """The template refuses an answer."""

    def __init__(self, question: str | None, reason: str) -> None:
        self.question = question
        if question == "service_name":
            mend = "choose another NAME"
        else:
            mend = f"give another answer with --data {question or 'question'}=…"
        about = f"the answer to {question} is refused" if question else "an answer is refused"
        super().__init__(f"{about}: {one_line(reason)}; {mend}.")


class RenderFailed(DockyardError):
    """The template itself is at fault: Copier cannot render it."""

    def __init__(self, source: str, version: str, reason: str) -> None:
        super().__init__(
            f"the template {source} at {version} cannot be rendered: {one_line(reason)}. "
            "Mend the template, or choose another version: "
            "--ref for a new service, else `dockyard update --to`."
        )


def copy(
    template: Template, source: str, into: Path, answers: Mapping[str, Any], **options: Any
) -> None:
    """Let Copier render `source`, which is `template`, into the folder `into`.

    Raises BadAnswer if the template refuses an answer, RenderFailed if the template is at fault,
    ToolFailed if git cannot check it out, and OSError.
    """
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
        # Copier's interrupt is an Exception too. The caller knows what the disk refused.
        raise
    except Exception as error:
        # Copier raises far more than its own errors: Jinja's, YAML's, bare ValueErrors for answers.
        raise _translated(error, template) from error


def copy_again(
    template: Template,
    source: str,
    into: Path,
    data: Mapping[str, Any],
    recorded: Recorded,
    **options: Any,
) -> None:
    """As `copy`, for a service whose answers file is in `into` already; asks nothing.

    The user's settings of Copier do not count, so that every machine renders the same.
    """
    from copier import Settings  # noqa: PLC0415 - as in copy

    copy(
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


def seed(recorded: Recorded, out: Path) -> None:
    """Give the empty folder `out` the recorded answers, as an update finds them."""
    answers_file = out / recorded.file
    answers_file.parent.mkdir(parents=True)
    said = {**recorded.answers, "_commit": recorded.version, "_src_path": recorded.source}
    answers_file.write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")


def record(template: Template, answers_file: Path, values: Mapping[str, str]) -> None:
    """Make the answers file say `values`, in the form that Copier gives them.

    Raises RenderFailed if the template writes no usable answers file.
    """
    try:
        text = answers_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    said = parsed(text)
    if "_src_path" not in said or "_commit" not in {*said, *values}:
        raise RenderFailed(
            template.source.recorded,
            template.version,
            f"it writes no {answers_file.name} with _commit in it, "
            "so that the service could never be updated",
        )
    for key, value in values.items():
        if said.get(key) != value:
            line = yaml.safe_dump({key: value}, allow_unicode=True)
            # A long value goes on in indented lines.
            pattern = rf"^{key}:.*\n(?: .*\n)*" if key in said else r"^(?=_src_path:)"
            text = re.sub(pattern, line.replace("\\", r"\\"), text, count=1, flags=re.MULTILINE)
    if values:
        answers_file.write_text(text, encoding="utf-8")


def with_mirror(template: Template) -> dict[str, str]:
    """The environment in which Copier clones from the mirror and still records the address."""
    source = template.source
    config = {} if source.url is None else {f"url.{source.repository}.insteadOf": source.url}
    env = git.isolated_environment(config)
    has_submodules = git.run(
        *("ls-tree", "--name-only", template.commit, "--", ".gitmodules"), folder=source.repository
    )
    # Copier fetches them from wherever they are.
    return git.with_access(env, source.repository) if has_submodules else env


@contextmanager
def surroundings(env: Mapping[str, str]) -> Iterator[None]:
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


def _translated(error: Exception, template: Template) -> DockyardError:
    if type(error) is ValueError:
        question, reason = (
            matched.groups() if (matched := _REFUSED.fullmatch(str(error))) else (None, str(error))
        )
        return BadAnswer(question, reason)
    return RenderFailed(
        template.source.recorded, template.version, str(error) or type(error).__name__
    )

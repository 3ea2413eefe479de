"""What a user can get wrong: one class a mistake, whose sentence says what is wrong, where, and how to mend it.

Knows nothing of git, Copier or the terminal. The command line prints the sentence and exits with `exit_code`.
"""

import re
from collections.abc import Iterable
from pathlib import Path

_CREDENTIALS = re.compile(r"://[^/\s@]+@")
_LONGEST_REASON = 600


def one_line(text: str) -> str:
    """`text` of another program as part of a sentence: one line, without credentials, cut when it rambles."""
    line = _CREDENTIALS.sub("://***@", " ".join(text.split())).rstrip(".")
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} …"


class DockyardError(Exception):
    """Base of everything that ends a command with a sentence instead of a traceback."""

    exit_code = 2


class BadName(DockyardError):
    """The name of the new service is not kebab-case."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is not a service name: use kebab-case, a lower-case letter first, "
            "then lower-case letters, digits and single hyphens, such as billing-svc."
        )


class NameTaken(DockyardError):
    """Something is already where the new service should be."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already: choose another name, another folder with --into, or move it away.")


class CannotWrite(DockyardError):
    """The operating system refuses to write: permission, space, a file where a folder should be."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write to {path}: {one_line(error.strerror or str(error))}. "
            "Mend that, or choose another folder with --into."
        )


class BadData(DockyardError):
    """A `--data` that is not `question=answer`."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"--data {text!r} is not of the form question=answer: write for example --data owner=payments."
        )


class UnknownQuestion(DockyardError):
    """A `--data` for a question that the template does not ask."""

    def __init__(self, key: str, source: str, questions: Iterable[str]) -> None:
        super().__init__(
            f"--data {key}=…: the template {source} does not ask {key!r}; it asks {', '.join(sorted(questions))}."
        )


class NameGivenTwice(DockyardError):
    """A `--data service_name=…` beside the name itself."""

    def __init__(self) -> None:
        super().__init__("--data service_name=…: NAME says it already, leave this --data out.")


class BadAnswer(DockyardError):
    """The template refuses an answer."""

    def __init__(self, question: str | None, reason: str) -> None:
        if question == "service_name":
            mend = "choose another NAME"
        else:
            mend = f"give another answer with --data {question or 'question'}=…"
        about = f"the answer to {question} is refused" if question else "an answer is refused"
        super().__init__(f"{about}: {one_line(reason)}; {mend}.")


class NobodyToAsk(DockyardError):
    """Questions are open and standard input is not a terminal."""

    def __init__(self, questions: Iterable[str]) -> None:
        super().__init__(
            f"nobody to ask for {', '.join(questions)}: standard input is not a terminal; "
            "add --defaults, or answer with --data question=answer."
        )


class NoTemplate(DockyardError):
    """No template was named and none can be found."""

    def __init__(self) -> None:
        super().__init__(
            "no template is known: pass --template with a folder or a git URL, or set DOCKYARD_TEMPLATE to one."
        )


class CredentialsInSource(DockyardError):
    """The template's URL carries credentials, which would be recorded in every service."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"the template's URL on {host} carries credentials, which would be recorded in the service: "
            "leave them out and let a git credential helper or an SSH key give them."
        )


class SourceUnreachable(DockyardError):
    """The template's repository does not answer or does not exist."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"cannot reach the template {source}: {one_line(reason)}. "
            "Check the address in --template, the network, and your access."
        )


class NotATemplate(DockyardError):
    """The source is there, but it is no template that Dockyard can render and later update."""

    def __init__(self, source: str, why: str, mend: str = "Name the root of a template's git repository.") -> None:
        super().__init__(f"{source} is not a template that Dockyard can use: {one_line(why)}. {mend}")


class UnknownRef(DockyardError):
    """`--ref` names nothing in the template's repository."""

    def __init__(self, ref: str, source: str, releases: Iterable[str]) -> None:
        known = ", ".join(releases)
        super().__init__(
            f"--ref {ref!r} is no tag, branch or commit of {source}; "
            + (f"its newest releases are {known}." if known else "it has no releases: leave --ref out for its HEAD.")
        )


class RenderFailed(DockyardError):
    """The template itself is at fault: Copier cannot render it."""

    def __init__(self, source: str, version: str, reason: str) -> None:
        super().__init__(
            f"the template {source} at {version} cannot be rendered: {one_line(reason)}. "
            "Mend the template, or choose another version with --ref."
        )


class ToolMissing(DockyardError):
    """A program that Dockyard needs is not installed."""

    def __init__(self, tool: str) -> None:
        super().__init__(f"{tool} is needed and not found: install it, or put its folder on PATH, and run this again.")


class ToolFailed(DockyardError):
    """A program that Dockyard runs ended badly."""

    def __init__(self, doing: str, reason: str, mend: str = "Mend that and run this again.") -> None:
        super().__init__(f"cannot {doing}: {one_line(reason)}. {mend}")

"""What a user can get wrong: one class a mistake, whose sentence says what is wrong, where, and how to mend it.

Knows nothing of git, Copier or the terminal. The command line prints the sentence and exits with `exit_code`.
"""

import re
import traceback
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


class Refused(DockyardError):
    """The operating system refuses something, where nothing is known of what that was for."""

    def __init__(self, error: OSError) -> None:
        where = f"{error.filename}: " if error.filename else ""
        super().__init__(
            f"cannot go on: {where}{one_line(error.strerror or str(error))}. Mend that and run this again."
        )


class Defect(DockyardError):
    """An error that nobody foresaw; the code 1 of a traceback would say that something is left for a person."""

    def __init__(self, error: Exception) -> None:
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = one_line(f"{type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno})")
        super().__init__(f"a defect of dockyard: {reason}; please report it.")


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
        super().__init__(
            f"{path} exists already: choose another name, another folder with --into, or move it away."
        )


class CannotWrite(DockyardError):
    """The operating system refuses to write: permission, space, a file where a folder should be."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write to {path}: {one_line(error.strerror or str(error))}. "
            "Mend that, or choose another folder with --into."
        )


class CannotCache(DockyardError):
    """The operating system refuses to write to Dockyard's cache of templates and renders."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write to Dockyard's cache {folder}: {one_line(error.strerror or str(error))}. "
            "Mend that, or name another folder in DOCKYARD_CACHE_DIR."
        )


class BrokenCache(DockyardError):
    """The cache holds something else than was put there; nothing of it was used."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"Dockyard's cache {folder} is damaged: {one_line(reason)}. Delete that folder, which is made anew, "
            "and run this again."
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

    def __init__(self, source: str, reason: str, named: str) -> None:
        super().__init__(
            f"cannot reach the template {source}: {one_line(reason)}. "
            f"Check the address in {named}, the network, and your access."
        )


class NotATemplate(DockyardError):
    """The source is there, but it is no template that Dockyard can render and later update."""

    def __init__(self, source: str, why: str, mend: str) -> None:
        super().__init__(
            f"{source} is not a template that Dockyard can use: {one_line(why)}. {mend}"
        )


class UnknownRef(DockyardError):
    """The wanted version is nothing in the template's repository."""

    def __init__(self, option: str, ref: str, source: str, releases: Iterable[str]) -> None:
        known = ", ".join(releases)
        super().__init__(
            f"{option} {ref!r} is no tag, branch or commit of {source}; "
            + (
                f"its newest releases are {known}."
                if known
                else f"it has no releases: leave {option} out for its HEAD."
            )
        )


class RenderFailed(DockyardError):
    """The template itself is at fault: Copier cannot render it."""

    def __init__(self, source: str, version: str, reason: str) -> None:
        super().__init__(
            f"the template {source} at {version} cannot be rendered: {one_line(reason)}. "
            "Mend the template, or choose another version, of a new service with --ref, else by `dockyard update --to`."
        )


class ToolMissing(DockyardError):
    """A program that Dockyard needs is not installed."""

    def __init__(self, tool: str) -> None:
        super().__init__(
            f"{tool} is needed and not found: install it, or put its folder on PATH, and run this again."
        )


class ToolFailed(DockyardError):
    """A program that Dockyard runs ended badly."""

    def __init__(
        self, doing: str, reason: str, mend: str = "Mend that and run this again."
    ) -> None:
        super().__init__(f"cannot {doing}: {one_line(reason)}. {mend}")


class GitTooOld(DockyardError):
    """The git in PATH lacks what an update needs."""

    def __init__(self, found: str, needed: str) -> None:
        super().__init__(
            f"git {found} is too old: updates need git {needed} or newer. Install one and put it first in PATH."
        )


class NotAService(DockyardError):
    """The folder has no answers file, so that nobody knows what rendered it."""

    def __init__(self, folder: Path, why: str, mend: str) -> None:
        super().__init__(
            f"{folder} is not a service that Dockyard can read: {one_line(why)}. {mend}"
        )


class BrokenAnswers(DockyardError):
    """The answers file is there and does not say what it should."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(
            f"{file} cannot be used: {one_line(why)}. Restore it from git, for example with "
            f"`git checkout HEAD -- {file.name}`, or let `dockyard adopt` write a new one."
        )


class CommitGone(DockyardError):
    """The template's repository does not have the commit that the service was rendered from."""

    def __init__(self, version: str, source: str, file: str, nearest: str | None) -> None:
        super().__init__(
            f"{source} does not have {version}, which rendered this service: its history was rewritten, or the tag "
            "was deleted. "
            + (
                f"Nearest to the service is {nearest}: write that version as _commit into {file}, and commit it."
                if nearest
                else f"Name the version that rendered it as _commit in {file}."
            )
        )


class FloatingVersion(DockyardError):
    """The recorded version is a tag that moves, or a branch, so that what rendered the service is not known."""

    def __init__(self, version: str, why: str, file: str, nearest: str | None) -> None:
        super().__init__(
            f"the service records {version}, {why}: what rendered the service is not known. "
            f"Write the precise version as _commit into {file}, and commit it"
            + (f"; nearest to the service is {nearest}." if nearest else ".")
        )


class Downgrade(DockyardError):
    """The wanted version is older than the service's."""

    def __init__(self, wanted: str, recorded: str) -> None:
        super().__init__(
            f"{wanted} is older than {recorded}, which the service has: updates go forward only. To go back, revert "
            "the commit of the update."
        )


class CannotGoTogether(DockyardError):
    """Two options exclude each other."""

    def __init__(self, one: str, other: str, why: str) -> None:
        super().__init__(f"{one} and {other} cannot go together: {why}; choose one.")


class NotManaged(DockyardError):
    """A path that the recorded version of the template does not manage cannot be restored from it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is no managed file of this service: it is the team's, or the recorded version does not have it. "
            "Name a file that `dockyard diff` shows, or a folder with some."
        )


class NoFleet(DockyardError):
    """There is neither a fleet file nor a service where a fleet was said to be."""

    def __init__(self, place: Path) -> None:
        super().__init__(
            f"there is no fleet at {place}: name a fleet.toml, or a folder that has services "
            "(folders with an answers file of Copier) in it."
        )


class BadFleetFile(DockyardError):
    """A fleet file that cannot be read, or asks for what it does not have."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(
            f"{file}: {one_line(problem)}. The fields of a fleet file are in docs/reference/fleet-file.md."
        )


class RecordedAlready(DockyardError):
    """The service to adopt has a valid answers file."""

    def __init__(self, file: Path, version: str) -> None:
        super().__init__(
            f"{file} says already that {version} rendered this service: nothing to adopt. "
            "To replace what it says, add --force."
        )


class NothingNear(DockyardError):
    """No version of the template resembles the service."""

    def __init__(self, folder: Path, source: str, nearest: str) -> None:
        super().__init__(
            f"{folder} does not look like a service of {source}: {nearest}. Name another template with --template, "
            "give answers that you know with --data, or lay down a new service with `dockyard new` and move the code "
            "there."
        )


class FleetBusy(DockyardError):
    """Another update of the same fleet is at work."""

    def __init__(self, fleet: Path, by: str) -> None:
        super().__init__(
            f"the fleet {fleet} is being updated already, by {by}: wait until that is done, or run this with --wait."
        )


class BadTimeout(DockyardError):
    """The setting of how long a network may take is no such time."""

    def __init__(self, setting: str, said: str) -> None:
        super().__init__(
            f"{setting}={said!r} is no time: give the seconds after which a network is given up, such as 120."
        )


class ServiceUnreachable(DockyardError):
    """The repository of a service cannot be brought here."""

    def __init__(self, name: str, url: str, reason: str) -> None:
        super().__init__(
            f"cannot bring {name} here from {one_line(url)}: {one_line(reason)}. "
            "Check the address in the fleet file, the network and your access."
        )


class CannotPush(DockyardError):
    """The update is made, and its repository refuses it."""

    def __init__(self, branch: str, reason: str) -> None:
        super().__init__(
            f"the update is on {branch}, but cannot be pushed: {one_line(reason)}. Mend that and run this again."
        )


class CannotWithdraw(DockyardError):
    """The update is pushed, and the branch of an earlier one cannot be deleted."""

    def __init__(self, branch: str, reason: str) -> None:
        super().__init__(
            f"{branch} is pushed, but the branch of an earlier update cannot be deleted: {one_line(reason)}. "
            "Delete it yourself, or mend that and run this again."
        )


class CannotWriteReport(DockyardError):
    """The page cannot be put where it was asked for."""

    def __init__(self, file: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write the report to {file}: {one_line(error.strerror or str(error))}. "
            "Mend that, or choose another file with --html."
        )

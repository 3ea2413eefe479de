"""Results in words, for people: tables on a terminal, plain lines elsewhere. Decides nothing."""

import shlex
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from dockyard.adopting.adopt import Adopted
from dockyard.commands import Checked, Outcome, Restored, Updated
from dockyard.programs.tree import shown
from dockyard.rendering.template import Template
from dockyard.updating.merge import File, State
from dockyard.updating.plan import Plan

_STYLE = {
    State.CONFLICT: "bold red",
    State.MERGED: "yellow",
    State.DRIFTED: "yellow",
    State.CHANGED: "green",
    State.SEEDED: "green",
}
_SILENT = {State.CLEAN, State.YOURS}


def updated(result: Updated) -> None:
    """What an update did, and what is left to do."""
    out = _console()
    name = result.service.name
    if result.outcome is Outcome.NOTHING:
        out.print(
            Text(f"{name} has the newest version already: {result.service.recorded.version}.")
        )
        return
    for plan in result.plans:
        _plan(out, name, plan)
    out.print(Text(_ending(result), style="bold red" if result.conflicts else "bold green"))


def checked(result: Checked) -> None:
    """Whether there is something to do."""
    out = _console()
    name, way = result.service.name, result.step
    if result.behind:
        releases = f"{result.behind} {'version' if result.behind == 1 else 'versions'}"
        out.print(
            Text(
                f"{name} is {releases} behind: {way.recorded.version}, "
                f"the newest is {way.target.version}."
            )
        )
    if result.drift.files:
        _rows(out, ("drift", "file"), [(file.how, shown(file.path)) for file in result.drift.files])
        out.print(
            Text(f"{name} has drifted in {_files(len(result.drift.files))}: see `dockyard diff`.")
        )
    if result.is_well:
        out.print(Text(f"{name} is current and clean: {way.recorded.version}.", style="bold green"))


def restored(result: Restored) -> None:
    """What was brought back."""
    out = _console()
    if not result.paths:
        out.print(Text(f"{result.service.name} has no drift there."))
        return
    _rows(out, ("restored",), [(shown(path),) for path in result.paths])
    out.print(
        Text(
            f"{_files(len(result.paths))} restored and staged: "
            "look with `git diff --cached`, then commit."
        )
    )


def comparing(versions: Sequence[Template]) -> Iterable[Template]:
    """`versions`, with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(
        versions,
        "comparing versions",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def adopted(result: Adopted) -> None:
    """What rendered a service, and how sure that is."""
    out = _console()
    equal = len(result.managed) - len(result.drifted)
    version = result.template.version
    out.print(
        Text(
            f"Nearest of {result.candidates} versions is {version}: "
            f"{equal} of {len(result.managed)} managed files are as it renders them, "
            f"{result.share:.1%} of their lines."
        )
    )
    _rows(
        out,
        ("question", "answer"),
        [(name, str(answer)) for name, answer in result.answers.items()],
    )
    _rows(
        out,
        ("as rendered", "drifted file"),
        [(f"{file.share:.0%}", shown(file.path)) for file in result.drifted],
    )
    file = shlex.quote(result.service.recorded.file)
    if result.is_written:
        out.print(
            Text(
                f"Written to {file}: commit it, "
                "then look with `dockyard check` and `dockyard diff`.",
                style="bold green",
            )
        )
    else:
        out.print(Text("Nothing was written."))


def _plan(out: Console, service: str, plan: Plan) -> None:
    step = plan.step
    out.print(Text(f"{service}: {step.recorded.version} → {step.target.version}", style="bold"))
    if plan.notes:
        out.print(Text(plan.notes, style="dim"))
    for question in plan.new_questions:
        default = f"from {' and '.join(question.carried)}" if question.carried else "the default"
        how = "as given" if question.is_given else f"{default}; another with --data"
        out.print(
            Text(f"new question {question.name} = {question.answer!r} ({how}): {question.help}")
        )
    for name in plan.retired:
        out.print(Text(f"{name} is not asked any more."))
    loud = [file for file in plan.merge.files if file.state not in _SILENT and not file.is_part]
    _rows(
        out,
        ("", "file", ""),
        [_row(file) for file in loud],
        [_STYLE.get(file.state, "") for file in loud],
    )


def _row(file: File) -> tuple[str, str, str]:
    return (
        file.state,
        shown(file.path),
        f"{file.conflict}: {shown(file.message)}" if file.conflict else "",
    )


def _ending(result: Updated) -> str:
    conflicts = f"{result.conflicts} {'conflict' if result.conflicts == 1 else 'conflicts'}"
    folder = shlex.quote(str(result.service.root))
    if result.outcome is Outcome.PREDICTED:
        found = f" It leaves {conflicts} to solve." if result.conflicts else ""
        return f"This is what the update does; nothing was written.{found}"
    if result.outcome is Outcome.BLOCKED:
        return (
            f"{conflicts}, which a branch cannot hold: nothing was written. "
            f"Run `dockyard update {folder} --in-place` and solve them there."
        )
    if result.outcome is Outcome.COMMITTED and result.committed is not None:
        where = f"the branch {result.committed.branch}"
        return f"Committed on {where}." if result.committed.is_new else f"It is on {where} already."
    if result.conflicts:
        return (
            f"Written and staged, with {conflicts} left to solve: "
            "`git status` names them, `git add` settles them."
        )
    return "Written and staged: look with `git diff --cached`, run the tests, then commit."


def _rows(
    out: Console, heads: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] = ()
) -> None:
    rows = list(rows)
    if not rows:
        return
    if not out.is_terminal:
        for row in rows:
            out.print(Text("  ".join(cell for cell in row if cell)))
        return
    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for number, row in enumerate(rows):
        table.add_row(*map(Text, row), style=styles[number] if styles else "")
    out.print(table)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _console() -> Console:
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())

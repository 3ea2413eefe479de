"""Nothing of the user's git reaches what is rendered, merged or shown, however it is said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.generator import services
from tests.generator.lab import Dockyard, Repository, git
from tests.generator.services import LINES, Made

# Each changes what some git command writes, reads or prints.
HOSTILE = {
    "apply.whitespace": "fix",
    "commit.gpgSign": "true",
    "core.abbrev": "4",
    "core.attributesFile": "{home}/attributes",
    "core.eol": "crlf",
    "core.excludesFile": "{home}/ignore",
    "core.hooksPath": "{home}/hooks",
    "core.pager": "false",
    "core.quotePath": "false",
    "diff.algorithm": "histogram",
    "diff.context": "0",
    "diff.external": "false",
    "diff.interHunkContext": "50",
    "diff.mnemonicPrefix": "true",
    "diff.noprefix": "true",
    "diff.renames": "copies",
    "diff.suppressBlankEmpty": "true",
    "gpg.program": "false",
    "i18n.commitEncoding": "latin1",
    "init.templateDir": "{home}/absent",
    "log.showSignature": "true",
    "merge.conflictStyle": "zdiff3",
    "merge.default": "union",
    "merge.directoryRenames": "true",
    "merge.renames": "false",
    "merge.renormalize": "true",
    "status.renames": "copies",
    "tag.gpgSign": "true",
    "trailer.separators": "%",
}
# These are the user's choice for a checkout, so they may show in the working tree alone.
OF_A_CHECKOUT = {"core.autocrlf": "input", "core.fileMode": "false"}

CHANGED = {
    "template/Makefile": LINES.replace("line 2\n", "line 2, newer\n"),
    "template/déjà.txt": "vu\n",
    "template/dos.bat": "one\r\ntwo\r\n",
    "template/run.sh": "#!/bin/sh\n",
    "template/old.cfg": None,
    "template/renamed.cfg": f"old\n{LINES}",
    "template/lines.txt.jinja": "# {{ owner }}\n\n" + LINES,
}
IN_CONFLICT = {"template/Makefile": LINES.replace("line 19\n", "line 19, newest\n")}


def by_file(home: Path, config: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in config.items():
        git(home, "config", "--global", key, value)


def by_environment(home: Path, config: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (key, value) in enumerate(config.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(config)))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")


def by_command_line(home: Path, config: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a hook of `git -c … commit` has it."""
    said = " ".join(f"'{key}'='{value}'" for key, value in config.items())
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", said)
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    monkeypatch.setenv("GIT_PREFIX", "")


Say = Callable[[Path, dict[str, str], pytest.MonkeyPatch], None]


@pytest.fixture
def edited(evolving: Repository, service: Made) -> Made:
    """A service with drift of every kind, for which v1.1.0 brings changes, v1.2.0 a conflict."""
    service.write({"Makefile": LINES.replace("line 19\n", "line 19, ours\n"), "logo.png": b"\0a"})
    (service.root / "tool.ini").chmod(0o755)
    service.write({})
    services.release(evolving, CHANGED, "v1.1.0")
    services.release(evolving, IN_CONFLICT, "v1.2.0")
    return service


@pytest.fixture
def answers(dockyard: Dockyard, edited: Made) -> Callable[[], dict[str, object]]:
    """What the commands say and do, from an empty cache."""

    def run() -> dict[str, object]:
        shutil.rmtree(Path.home() / ".cache", ignore_errors=True)
        found: dict[str, object] = {
            " ".join(command): dockyard(command[0], edited.root, *command[1:])
            for command in (
                ["check", "--json"],
                ["diff"],
                ["diff", "--to", "v1.1.0"],
                ["update", "--dry-run", "--json"],
            )
        }
        ran = dockyard("update", edited.root, "--to", "v1.1.0", "--json")
        assert ran.code == 0, ran.err
        found["branch"] = json.loads(ran.out)["tree"]
        found["committed"] = git(edited.root, "rev-parse", "dockyard/v1.1.0^{tree}").strip()
        # Not by git, which the configuration would stop.
        (edited.root / ".git/refs/heads/dockyard/v1.1.0").unlink()
        return found

    return run


@pytest.mark.parametrize("say", [by_file, by_environment, by_command_line])
def test_every_command_gives_the_same_under_hostile_configuration(
    answers: Callable[[], dict[str, object]],
    home: Path,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = answers()
    hooks = home / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "pre-commit", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {home}/ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    (home / "attributes").write_text("* text=auto merge=union\n*.png diff=hex\n")
    (home / "ignore").write_text("*.txt\n*.sh\n")
    say(home, {key: value.format(home=home) for key, value in HOSTILE.items()}, monkeypatch)

    assert answers() == before
    assert not (home / "ran").exists()


@pytest.mark.parametrize("say", [by_file, by_environment, by_command_line])
def test_settings_of_a_checkout_do_not_get_into_renders(
    answers: Callable[[], dict[str, object]],
    home: Path,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = answers()
    say(home, OF_A_CHECKOUT, monkeypatch)

    now = answers()

    assert (now["branch"], now["committed"]) == (before["branch"], before["committed"])

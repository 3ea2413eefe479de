"""The second tutorial, block by block: files are written, commands run, services started."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.brokers import process
from tests.template import lab
from tests.waiting import happens, until

PAGE = (lab.ROOT / "docs" / "tutorial-processes.md").read_text("utf-8")
BLOCK = re.compile(
    r"(?P<before>.*?)^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Reader:
    """Does what the page says in `folder`, and expects to see what it shows.

    Its services end with `stack`.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], stack: ExitStack) -> None:
        self.folder = folder
        self.env = env
        self.stack = stack
        self.logs: list[Path] = []
        self.command = ""
        self.said = ""

    def runs(self, command: str) -> None:
        printed = lab.run(["bash", "-ec", f"{command}\npwd"], self.folder, self.env)
        self.said, _, folder = f"\n{printed.rstrip()}".rpartition("\n")
        self.command, self.folder = command, Path(folder)

    def starts(self, command: str) -> None:
        folder, make = command.splitlines()
        self.runs(folder)
        log = self.folder / "dev.log"
        self.stack.enter_context(running(make, self.folder, self.env, log))
        self.logs.append(log)
        until(lambda: " ready " in log.read_text(), lambda: f"ready in {log.read_text()}")

    def sees(self, shown: str) -> None:
        """`…` and runs of spaces stand for anything. A command that only looks may look again."""
        patterns = [pattern(line) for line in shown.splitlines()]

        def appear() -> bool:
            if all(each.search(self.printed()) for each in patterns):
                return True
            if " processes " in self.command:
                self.runs(self.command)
            return False

        assert happens(appear, 30), f"{shown}\nis not in\n{self.printed()}"

    def printed(self) -> str:
        return "\n".join([*(log.read_text() for log in self.logs), self.said])


def pattern(line: str) -> re.Pattern[str]:
    words = re.escape(line).replace("…", ".*")
    return re.compile(re.sub(r"(\\ )+", " +", words))


@contextmanager
def running(command: str, folder: Path, env: Mapping[str, str], log: Path) -> Iterator[None]:
    """`command` in a group of its own; the end is a Ctrl-C."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=env,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    try:
        yield
        os.killpg(started.pid, signal.SIGINT)
        started.wait(60)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def test_a_reader_of_the_tutorial_sees_what_it_shows(
    render: lab.Render, tmp_path: Path, make_environment: Mapping[str, str]
) -> None:
    (_, _, lay_down), *blocks = BLOCK.findall(PAGE)
    for name in ("orders-svc", "shipping-svc"):
        assert f"dockyard new {name} --into .. --data bus=nats --defaults\n" in lay_down
        render(service_name=name, bus="nats").rename(tmp_path / name)
    state = tmp_path / "state"
    own = {"CHASSIS_LOG_FORMAT": "console", "CHASSIS_HTTP_PORT": "0", "XDG_STATE_HOME": str(state)}
    env = {**make_environment, **own}
    with ExitStack() as stack:
        reader = Reader(tmp_path / "orders-svc", env, stack)
        for before, kind, text in blocks:
            if "make dev" in text:
                reader.starts(text)
            elif kind == "sh":
                reader.runs(text)
            elif kind:
                file = re.findall(r"`(\S+\.(?:proto|py))`", before)[-1]
                (reader.folder / file).write_text(text, "utf-8")
            else:
                reader.sees(text)
    # Without a terminal uv hands a Ctrl-C on, and the second one ends `dev` at once.
    until(lambda: not process.running(state), "the end of the NATS that both used")

"""The story from an empty folder to no folder: two services, a broker, the steps, the end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dockyard import new
from dockyard.demo import stage, team
from dockyard.demo.actor import Actor
from dockyard.demo.ledger import Provider
from dockyard.demo.show import Show
from dockyard.demo.steps import Steps
from dockyard.programs.signals import uninterrupted
from dockyard.rendering.source import default_source
from dockyard.rendering.template import Template, open_template

SERVICES = ("welcome-svc", "billing-svc")
_STAGES = {
    "rendering": "rendering",
    "locking": "locking dependencies",
    "generating": "generating contracts",
    "making": "committing",
}
"""Short names of what `new.create` reports, by its first word."""


def play(template: str | None) -> bool:
    """Tell the story with `template` (default: the one this code comes with).

    True if no event was lost, none had two effects and every checked fact held.
    Raises DockyardError.
    """
    show = Show()
    show.note("Two services and a NATS server on this machine. It takes about a minute.")
    with _folder() as folder:
        show.step("Two services are laid down, and their teams write their handlers")
        _lay_down(folder, open_template(template or default_source(), None), show)
        with _cast(folder, show) as story:
            try:
                story.tell()
            except stage.DidNotHappenError as error:
                show.fact(str(error), good=False)
                story.show_logs()
            story.balance()
    return show.all_good


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for all that the demo makes, removed at the end, also when Ctrl-C comes twice."""
    folder = Path(tempfile.mkdtemp(prefix="dockyard-demo-"))
    try:
        yield folder
    finally:
        with uninterrupted():
            shutil.rmtree(folder, ignore_errors=True)


def _lay_down(folder: Path, template: Template, show: Show) -> None:
    for name in SERVICES:
        show.command(["dockyard", "new", name, "--data", "bus=nats", "--defaults"])
        with show.stages() as begin:

            def progress(message: str) -> None:
                begin(_STAGES.get(message.split(maxsplit=1)[0], message))

            new.create(folder / name, template, {"bus": "nats"}, ask=False, progress=progress)
        with show.stages() as begin:
            team.write_handlers(folder / name, begin)
        show.fact(f"{name}: the team's contract and handler are in, and its tests pass")


@contextmanager
def _cast(folder: Path, show: Show) -> Iterator[Steps]:
    """The services and the world around them; all end with the story."""
    provider = Provider(folder / "provider.db")
    data = folder / "nats"
    data.mkdir()
    with stage.nats_server(data) as url:
        show.fact(f"a NATS server with JetStream listens at {url}")
        env = stage.service_environment(url, provider.path)
        welcome, billing = (
            Actor(name, folder / name, env, folder / f"{name}.log") for name in SERVICES
        )
        try:
            yield Steps(show, provider, welcome, billing)
        finally:
            with uninterrupted():
                welcome.end()
                billing.end()

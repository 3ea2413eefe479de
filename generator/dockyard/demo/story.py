"""The story from an empty folder to no folder: services, a broker, the steps, the end."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dockyard import new
from dockyard.demo import stage, team
from dockyard.demo.actor import Actor
from dockyard.demo.ledger import Provider
from dockyard.demo.orders import Orders
from dockyard.demo.reckoning import reckon
from dockyard.demo.show import Show
from dockyard.demo.signups import SignUps
from dockyard.programs.signals import uninterrupted
from dockyard.rendering.source import default_source
from dockyard.rendering.template import Template, open_template

_ANSWERS = {"inbox": "nats-kv", "http_api": "false", "organisation": "acme"}
"""What the teams' code needs beside. A fork's defaults may differ."""
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
    stage.nats_binary()
    show.note("Three services and a NATS server on this machine. It takes about a minute.")
    with _folder() as folder:
        source = open_template(template or default_source(), None)
        show.step("Two services are laid down, and their teams write their handlers")
        for name in ("welcome-svc", "billing-svc"):
            _lay_down(folder / name, {"bus": "nats"}, source, show)
        with _cast(folder, show) as (provider, welcome, billing, shop):
            sign_ups = SignUps(show, provider, welcome, billing)
            orders = Orders(show, provider, shop, billing)
            try:
                sign_ups.tell()
                show.step("A third service joins, with HTTP and a process over all three")
                _lay_down(shop.folder, {"bus": "nats", "http_api": "true"}, source, show)
                orders.tell()
            except stage.DidNotHappenError as error:
                show.fact(str(error), good=False)
            started = [actor for actor in (welcome, billing, shop) if actor.process is not None]
            if not show.all_good:
                _show_logs(started, show)
            reckon(show, provider, started, sign_ups, orders)
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


def _lay_down(service: Path, answers: dict[str, str], template: Template, show: Show) -> None:
    data = [word for name, answer in answers.items() for word in ("--data", f"{name}={answer}")]
    show.command(["dockyard", "new", service.name, *data, "--defaults"])
    with show.stages() as begin:

        def progress(message: str) -> None:
            begin(_STAGES.get(message.split(maxsplit=1)[0], message))

        new.create(service, template, {**_ANSWERS, **answers}, ask=False, progress=progress)
    with show.stages() as begin:
        team.write_handlers(service, begin)
    show.fact(f"{service.name}: the team's contracts and handlers are in, and its tests pass")


def _show_logs(actors: Iterable[Actor], show: Show) -> None:
    """The last lines of the logs, which go with the folder."""
    for actor in actors:
        show.note(f"the end of the log of {actor.name}:")
        show.output("\n".join(actor.log.read_text().splitlines()[-3:]))


@contextmanager
def _cast(folder: Path, show: Show) -> Iterator[tuple[Provider, Actor, Actor, Actor]]:
    """The world around the services, and the services; all end with the story."""
    provider = Provider(folder / "provider.db")
    data = folder / "nats"
    data.mkdir()
    with stage.nats_server(data) as url:
        show.fact(f"a NATS server with JetStream listens at {url}")
        env = stage.service_environment(url, provider.path)
        welcome, billing, orders = (
            Actor(name, folder / name, env, folder / f"{name}.log")
            for name in ("welcome-svc", "billing-svc", "orders-svc")
        )
        try:
            yield provider, welcome, billing, orders
        finally:
            with uninterrupted():
                for actor in (welcome, billing, orders):
                    actor.end()

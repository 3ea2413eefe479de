"""The story: two services of a workshop, what can happen to them, and a ledger that counts it."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dockyard import new
from dockyard.demo import stage, team
from dockyard.demo.ledger import Provider, balance
from dockyard.demo.show import Show
from dockyard.rendering.source import default_source
from dockyard.rendering.template import open_template

SIGN_UP = '{"user_id": "ada", "email": "ada@example.com"}'
POISON = '{"user_id": "bob", "email": "bob-has-no-domain"}'
WHILE_KILLED = 200
UNDER_LOAD = 1000


def play(template: str | None) -> bool:
    """Tell the story with `template` (default: the one this code comes with).

    True when nothing was lost, nothing happened twice and everything that was checked held. Raises DockyardError.
    """
    show = Show()
    with (
        tempfile.TemporaryDirectory(prefix="dockyard-demo-") as folder,
        _stage(Path(folder), template, show) as play_,
    ):
        try:
            play_.tell()
        except stage.DidNotHappenError as error:
            show.fact(str(error), good=False)
        play_.balance()
        return show.all_good


@contextmanager
def _stage(folder: Path, template: str | None, show: Show) -> Iterator["_Play"]:
    show.step("Two services are laid down, and their teams write their handlers")
    source = open_template(template or default_source(), None)
    for name in ("welcome-svc", "billing-svc"):
        show.command(".", ["dockyard", "new", name, "--data", "bus=nats", "--defaults"])
        new.create(folder / name, source, {"bus": "nats"}, ask=False, progress=show.note)
        team.write_handlers(folder / name)
        show.fact(f"{name}: the team's contracts, handlers and tests are in, and its tests pass")
    provider = Provider(folder / "provider.db")
    data = folder / "nats"
    data.mkdir()
    with stage.nats_server(data) as url:
        show.note(f"a NATS server with JetStream runs at {url}")
        env = stage.service_environment(url, provider.path)
        welcome, billing = (
            stage.Actor(name, folder / name, env, folder / f"{name}.log")
            for name in ("welcome-svc", "billing-svc")
        )
        try:
            yield _Play(show, provider, welcome, billing)
        finally:
            welcome.end()
            billing.end()


class _Play:
    """The steps, in order, and what was published in them."""

    def __init__(
        self, show: Show, provider: Provider, welcome: stage.Actor, billing: stage.Actor
    ) -> None:
        self._show = show
        self._provider = provider
        self._welcome = welcome
        self._billing = billing
        self._actors = (welcome, billing)
        self._published: list[str] = []

    def tell(self) -> None:
        self._sign_up()
        self._again()
        self._kill()
        self._poison()
        self._drain()
        self._metrics()

    def balance(self) -> None:
        """What was published against what happened."""
        dead = Counter({actor.name: len(actor.dead_letters()) for actor in self._actors})
        duplicates = sum(actor.duplicates() for actor in self._actors)
        names = [actor.name for actor in self._actors]
        ledger = balance(self._provider, self._published, names, dead, duplicates)
        if ledger.repeats_refused:
            self._show.note(
                f"{ledger.repeats_refused} repeated calls after the kill had no effect: "
                "the provider knew their idempotency key"
            )
        self._show.last(f"ledger: {ledger}", good=ledger.balanced)

    def _sign_up(self) -> None:
        self._show.step("A sign-up is handled by both")
        for actor in self._actors:
            self._show.command(actor.name, [actor.name, "run"])
            actor.start()
        self._publish("signup-1", SIGN_UP)
        self._handled_by_both("signup-1")

    def _again(self) -> None:
        self._show.step("The same sign-up again is ignored by both")
        before = [actor.duplicates() for actor in self._actors]
        self._publish("signup-1", SIGN_UP)
        for actor, count in zip(self._actors, before, strict=True):
            stage.wait_for(
                partial(_more_duplicates, actor, count), f"{actor.name} ignoring the duplicate"
            )
            self._show.fact(f"{actor.name} has seen it before: acknowledged, not handled")

    def _kill(self) -> None:
        self._show.step(
            "welcome-svc is killed with SIGKILL; sign-ups go on; restarted, it catches up"
        )
        self._publish("before", SIGN_UP, WHILE_KILLED)
        self._show.command("welcome-svc", ["kill", "-KILL", "<pid>"])
        self._welcome.kill()
        events = self._publish("meanwhile", SIGN_UP, WHILE_KILLED)
        self._until_handled(self._billing, events)
        self._show.fact(f"billing-svc did not notice: all {len(events)} handled")
        missing = len(set(self._published)) - self._provider.handled(
            "welcome-svc", set(self._published)
        )
        self._show.note(f"{missing} sign-ups wait for welcome-svc")
        self._show.command("welcome-svc", ["welcome-svc", "run"])
        self._welcome.start()
        everything = sorted(set(self._published))
        self._until_handled(self._welcome, everything)
        self._show.fact(f"welcome-svc has caught up: all {len(everything)} handled")

    def _poison(self) -> None:
        welcome = self._welcome
        self._show.step("A poison message goes to the dead letters, and is replayed after a fix")
        self._publish("poison-1", POISON)
        stage.wait_for(lambda: bool(welcome.dead_letters()), "the dead letter")
        self._command(welcome, "dlq", "list")
        entry = welcome.dead_letters()[0]["id"]
        self._command(welcome, "dlq", "show", entry[:12])
        self._show.note("the team mends the handler and deploys it")
        self._show.output(team.fix_handler(welcome.folder))
        welcome.stop()
        welcome.start()
        self._command(welcome, "dlq", "replay", entry[:12])
        self._handled_by_both("poison-1")
        self._show.fact(f"{len(welcome.dead_letters())} dead letters are left")

    def _drain(self) -> None:
        self._show.step(
            "SIGTERM under load: billing-svc drains, and goes on where it was after a restart"
        )
        events = self._publish("load", SIGN_UP, UNDER_LOAD)
        self._show.command("billing-svc", ["kill", "-TERM", "<pid>"])
        started = time.monotonic()
        code = self._billing.stop()
        took = time.monotonic() - started
        done = self._provider.handled("billing-svc", events)
        self._show.fact(
            f"drained in {took:.1f} s with {done} of {len(events)} handled, exit code {code}",
            good=code == 0,
        )
        self._billing.start()
        for actor in self._actors:
            self._until_handled(actor, events)
            self._show.fact(f"{actor.name} handled all {len(events)}")

    def _metrics(self) -> None:
        self._show.step("The metrics it left")
        self._show.command(".", ["curl", f"http://127.0.0.1:{self._welcome.http_port}/metrics"])
        wanted = (
            "messaging_client_consumed",
            "chassis_inbox_claims_total",
            "chassis_dead",
            "chassis_event_age",
        )
        lines = [
            f"{name} {value:g}"
            for name, value in self._welcome.metrics().items()
            if name.startswith(wanted)
            and value
            and not name.endswith("_created")
            and "_bucket" not in name
            and "_created{" not in name
        ]
        self._show.output("\n".join(lines))

    def _publish(self, id_: str, json: str, count: int = 1) -> list[str]:
        arguments = ["publish", "UserSignedUp", "--json", json, "--id", id_]
        if count > 1:
            arguments += ["--count", str(count)]
        self._command(self._welcome, *arguments)
        events = [id_] if count == 1 else [f"{id_}-{number}" for number in range(1, count + 1)]
        self._published += events
        return events

    def _command(self, actor: stage.Actor, *arguments: str) -> None:
        self._show.command(actor.name, [actor.name, *arguments])
        self._show.output(actor.run(*arguments), lines=24)

    def _handled_by_both(self, event: str) -> None:
        for actor in self._actors:
            self._until_handled(actor, [event])
            self._show.fact(f"{actor.name} handled {event}")

    def _until_handled(self, actor: stage.Actor, events: list[str]) -> None:
        stage.wait_for(
            lambda: self._provider.handled(actor.name, events) == len(events),
            f"{actor.name} handling {len(events)} events",
        )


def _more_duplicates(actor: stage.Actor, than: int) -> bool:
    return actor.duplicates() > than

"""The first steps of the story: sign-ups, which two services handle."""

import time
from collections.abc import Callable

from dockyard.demo import stage, team
from dockyard.demo.actor import Actor
from dockyard.demo.ledger import Provider
from dockyard.demo.show import Show

SIGN_UP = '{"email": "ada@example.com"}'
POISON = '{"email": "bob-has-no-domain"}'
WHILE_KILLED = 200
UNDER_LOAD = 1000


class SignUps:
    """The steps, in order, and the ids of the sign-ups published in them."""

    def __init__(self, show: Show, provider: Provider, welcome: Actor, billing: Actor) -> None:
        self._show = show
        self._provider = provider
        self._welcome = welcome
        self._billing = billing
        self._actors = (welcome, billing)
        self.published: list[str] = []
        self.takers = [actor.name for actor in self._actors]

    def tell(self) -> None:
        self._sign_up()
        self._again()
        self._kill()
        self._poison()
        self._drain()

    def _sign_up(self) -> None:
        self._show.step("A sign-up is handled by both")
        for actor in self._actors:
            self._start(actor)
        self._publish("signup", SIGN_UP)
        self._handled_by_both("signup")

    def _again(self) -> None:
        self._show.step("The same sign-up again is ignored by both")
        before = {actor.name: self._duplicates(actor) for actor in self._actors}
        self._publish("signup", SIGN_UP)
        stage.wait_for(
            lambda: all(self._duplicates(actor) > before[actor.name] for actor in self._actors),
            "both ignoring the duplicate",
        )
        self._show.fact("both have seen it before: acknowledged, not handled")

    def _kill(self) -> None:
        self._show.step("welcome-svc is killed while it works; sign-ups go on; it catches up")
        self._publish("early", SIGN_UP, WHILE_KILLED, meanwhile=self._kill_at_work)
        events = self._publish("late", SIGN_UP, WHILE_KILLED)
        self._until_handled(self._billing, events)
        self._show.fact(f"billing-svc did not notice: all {len(events)} handled")
        everything = sorted(set(self.published))
        waiting = len(everything) - self._provider.handled("welcome-svc", everything)
        self._show.note(f"meanwhile {waiting} sign-ups wait for welcome-svc")
        self._start(self._welcome)
        self._until_handled(self._welcome, everything)
        self._show.fact(f"welcome-svc has caught up: all {len(everything)} handled")

    def _kill_at_work(self) -> None:
        """Its calls of the provider have been made, and wait for their answers."""
        stage.wait_for(
            lambda: self._provider.handled("welcome-svc", _ids("early", WHILE_KILLED)) > 0,
            "welcome-svc at work",
        )
        self._show.command(["kill", "-KILL", str(self._welcome.pid)], "welcome-svc")
        self._welcome.kill()

    def _poison(self) -> None:
        welcome = self._welcome
        self._show.step("A poison message goes to the dead letters, and is replayed after a fix")
        self._publish("poison", POISON)
        stage.wait_for(lambda: bool(welcome.dead_letters()), "the dead letter")
        attempts = stage.SETTINGS["CHASSIS_MAX_ATTEMPTS"]
        self._show.note(
            f"the handler raises: retried after a pause, put aside after {attempts} attempts"
        )
        self._command(welcome, "dlq", "list")
        entry = welcome.dead_letters()[0]["id"][:12]
        self._show.command([welcome.name, "dlq", "show", entry])
        shown = welcome.run("dlq", "show", entry)
        self._show.output(_end_of_traceback(shown).replace(f"{welcome.folder.parent}/", ""))
        self._show.note("the team mends the handler and deploys it")
        before, after = team.fix_handler(welcome.folder)
        self._show.change(before, after)
        welcome.stop()
        welcome.start()
        self._command(welcome, "dlq", "replay", entry)
        self._handled_by_both("poison")
        self._show.fact(f"{len(welcome.dead_letters())} dead letters are left")

    def _drain(self) -> None:
        self._show.step("SIGTERM under load: billing-svc drains, and goes on after a restart")
        events = self._publish("load", SIGN_UP, UNDER_LOAD)
        self._show.command(["kill", "-TERM", str(self._billing.pid)], "billing-svc")
        started = time.monotonic()
        code = self._billing.stop()
        took = time.monotonic() - started
        done = self._provider.handled("billing-svc", events)
        self._show.fact(
            f"drained in {took:.1f} s with {done} of {len(events)} handled, exit code {code}",
            good=code == 0,
        )
        self._start(self._billing)
        for actor in self._actors:
            self._until_handled(actor, events)
        self._show.fact(f"both have handled all {len(events)}")

    def _start(self, actor: Actor) -> None:
        self._show.command([actor.name, "run"])
        actor.start()

    def _publish(
        self, id_: str, json: str, count: int = 1, meanwhile: Callable[[], None] | None = None
    ) -> list[str]:
        arguments = ["publish", "UserSignedUp", "--id", id_, "--json", json]
        if count > 1:
            arguments += ["--count", str(count)]
        self._show.command([self._welcome.name, *arguments])
        self._welcome.run(*arguments, meanwhile=meanwhile)
        events = _ids(id_, count)
        self.published += events
        return events

    def _command(self, actor: Actor, *arguments: str) -> None:
        self._show.command([actor.name, *arguments])
        self._show.output(actor.run(*arguments))

    def _duplicates(self, actor: Actor) -> int:
        return actor.outcomes()["duplicate"]

    def _handled_by_both(self, event: str) -> None:
        for actor in self._actors:
            self._until_handled(actor, [event])
        self._show.fact(f"both have handled {event}")

    def _until_handled(self, actor: Actor, events: list[str]) -> None:
        stage.wait_for(
            lambda: self._provider.handled(actor.name, events) == len(events),
            f"{actor.name} handling {len(events)} events",
        )


def _ids(id_: str, count: int) -> list[str]:
    return [id_] if count == 1 else [f"{id_}-{number}" for number in range(1, count + 1)]


def _end_of_traceback(letter: str) -> str:
    """The last frame and the error of the traceback in what `dlq show` says."""
    head = "Traceback (most recent call last):"
    stack = letter.partition(f"{head}\n")[2].partition("\n\n")[0].splitlines()
    last_frame = max((n for n, line in enumerate(stack) if "File " in line), default=0)
    marks = set(" ^~")  # under the code, different in each version of Python
    return "\n".join(
        ["…", head, "  …", *(line for line in stack[last_frame:] if set(line) - marks)]
    )

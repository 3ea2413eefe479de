"""The last steps of the story: orders, each a process over the three services."""

import json
import time

from dockyard.demo import stage
from dockyard.demo.actor import Actor
from dockyard.demo.ledger import Provider
from dockyard.demo.show import Show

MANY = 90
REMINDER_SECONDS = 2.0
"""When orders-svc wakes up to an order that waits for its transfer."""


class Orders:
    """The steps, in order, and the ids of the orders placed in them."""

    def __init__(self, show: Show, provider: Provider, orders: Actor, billing: Actor) -> None:
        self._show = show
        self._provider = provider
        self._orders = orders
        self._billing = billing
        self.placed: set[str] = set()

    def tell(self) -> None:
        self._repeat()
        self._refuse()
        self._kill()
        self._remind()

    def _repeat(self) -> None:
        self._show.step("A request over HTTP is repeated, and places one order")
        self._start()
        events = {self._place("o-1", country="norway") for _ in range(2)}
        self._until_ended()
        calls = [self._provider.calls(f"{effect} o-1") for effect in ("charge", "ship")]
        self._show.fact(
            f"both are the event {' and '.join(events)}: charged once, shipped once",
            good=len(events) == 1 and calls == [1, 1],
        )

    def _refuse(self) -> None:
        self._show.step("An order that cannot be shipped is undone")
        self._place("o-2", country="atlantis")
        self._until_ended()
        calls = [self._provider.calls(f"{effect} o-2") for effect in ("charge", "refund", "ship")]
        self._show.fact("charged once, refused, refunded once", good=calls == [1, 1, 0])

    def _kill(self) -> None:
        self._show.step(f"orders-svc is killed in the middle of {MANY} orders")
        many = {f"o-{n}": "norway" if n % 3 else "atlantis" for n in range(3, 3 + MANY)}
        self._show.output(f"POST /orders, {MANY} times: every third order goes to atlantis")
        for order, country in many.items():
            self._place(order, shown=False, country=country)
        self._show.command(["kill", "-KILL", str(self._orders.pid)], "orders-svc")
        self._orders.kill()
        self._show.note(f"meanwhile {len(self._open())} orders are neither shipped nor undone")
        self._start()
        self._show.output(f"POST /orders, {MANY} times: the callers repeat their requests")
        for order, country in many.items():
            self._place(order, shown=False, country=country)
        self._until_ended()
        shipped, undone = (len(self._provider.done(how, many)) for how in ("ship", "refund"))
        refused = sum(country == "atlantis" for country in many.values())
        self._show.fact(
            f"{shipped} are shipped, {undone} are undone",
            good=(shipped, undone) == (MANY - refused, refused),
        )

    def _remind(self) -> None:
        order = f"o-{3 + MANY}"
        self._show.step(f"A customer who has not paid is reminded after {REMINDER_SECONDS:g} s")
        placed = time.time()
        self._place(order, transfer=True)
        stage.wait_for(lambda: bool(self._provider.done("remind", [order])), "the reminder")
        after = self._provider.moment(f"remind {order}") - placed
        self._show.fact(f"reminded after {after:.1f} s", good=after >= REMINDER_SECONDS)
        self._show.command([self._orders.name, "processes", "list"])
        self._show.output(self._orders.run("processes", "list"))
        pay = ["publish", "PaymentTaken", "--json", f'{{"order_id": "{order}"}}']
        self._show.command([self._billing.name, *pay], "the transfer has come")
        self._billing.run(*pay)
        self._until_ended()
        stage.wait_for(lambda: self._active() == 0, "the end of all processes")
        self._show.fact("the order is shipped, and no process is under way")

    def _start(self) -> None:
        self._show.command([self._orders.name, "run"])
        self._orders.start()

    def _place(self, order: str, *, shown: bool = True, **more: str | bool) -> str:
        """The id of the event that places the order, from the answer."""
        body = {"order_id": order, **more}
        self.placed.add(order)
        status, answer = self._orders.post("/orders", body, key=order)
        if shown:
            self._show.output(
                f"POST /orders, Idempotency-Key: {order}, {json.dumps(body)} → {status}"
            )
        return str(answer["event_id"])

    def _open(self) -> set[str]:
        """The orders that are neither shipped nor undone."""
        done = self._provider.done
        return self.placed - done("ship", self.placed) - done("refund", self.placed)

    def _until_ended(self) -> None:
        stage.wait_for(lambda: not self._open(), "the end of all orders")

    def _active(self) -> int:
        return len(self._orders.run("processes", "list", "--json").splitlines())

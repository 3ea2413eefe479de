"""A service with a fault at one named point of the marked event's way, once.

The points are wrapped around the chassis' ports from outside; the chassis has no hook for them.
Without a point it has no fault. Somebody outside counts its effects and publications.

    python -m tests.chaos.victim run
"""

import asyncio
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service, adapters
from chassis.bus import Bus, BusMetrics, Delivery, Subscription
from chassis.cli import main
from chassis.inbox import Inbox
from chassis.settings import Settings

MARKED = "marked"
"""The id of the event that the fault happens to."""
BESIDE = "beside-"
"""While the fault happens, events with this prefix are in their handler, before their effect."""
KILLER = "killer"
"""The id of an event that kills the process that handles it, each time."""
POISON = "poison"
"""The email of an event that its handler refuses, each time."""
STUBBORN = "stubborn"
"""The id of an event whose handler never ends, even when it is cancelled."""

service = Service("billing-svc", version="1.0.0")


class Fault:
    """Happens at `point`, once. The file `over` exists as soon as the fault has begun.

    `kind`: `kill` and `stop` are the signals to this process; `hold` waits for the file `go`
    beside `over`.

    A fault waits until the events beside it are in their handlers and all others are settled. So
    the test knows which events the fault hits.
    """

    def __init__(self, point: str, kind: str, over: Path, beside: int) -> None:
        self.point = point
        self.kind = kind
        self.over = over
        self.beside = beside
        self.in_hand: set[str] = set()
        self.held: set[str] = set()

    async def may_happen(self, point: str) -> None:
        """The event in hand has come to `point`."""
        if point != self.point or event_in_hand.get() != MARKED or self.over.exists():
            return
        while len(self.held) < self.beside or self.in_hand - self.held - {MARKED}:
            await asyncio.sleep(0.01)
        self.over.touch()
        if self.kind == "hold":
            while not self.over.with_name("go").exists():
                await asyncio.sleep(0.01)
        else:
            os.kill(os.getpid(), signal.SIGKILL if self.kind == "kill" else signal.SIGSTOP)

    async def hold(self, event: str) -> None:
        """Keep an event beside the marked one in its handler until the fault has happened."""
        if self.point and event.startswith(BESIDE) and not self.over.exists():
            self.held.add(event)
            try:
                await asyncio.Event().wait()
            finally:
                self.held.discard(event)


fault = Fault(
    os.environ.get("VICTIM_POINT", ""),
    os.environ.get("VICTIM_FAULT", ""),
    Path(os.environ.get("VICTIM_OVER", "over")),
    int(os.environ.get("VICTIM_BESIDE", "0")),
)
event_in_hand: ContextVar[str] = ContextVar("event_in_hand", default="")
pause = float(os.environ.get("VICTIM_PAUSE", "0"))  # seconds before the effect, and after it
ledger = sqlite3.connect(os.environ.get("CHAOS_SINK", ":memory:"), isolation_level=None, timeout=60)


@service.on(UserSignedUp)
async def handle_signup(event: UserSignedUp, ctx: Context) -> None:
    if event.email == POISON:
        raise ValueError(POISON)
    await fault.hold(ctx.event_id)
    if ctx.event_id == KILLER:
        os.kill(os.getpid(), signal.SIGKILL)
    if ctx.event_id == STUBBORN:
        await _for_ever()
    await asyncio.sleep(pause)
    await fault.may_happen("during_the_handler")
    row = ctx.event_id, ctx.idempotency_key, os.getpid()
    ledger.execute("INSERT INTO effects (event_id, key, pid) VALUES (?, ?, ?)", row)
    await fault.may_happen("after_the_effect")
    # Without a pause the loop gets no turn: a process stopped here returns before it learns how
    # long it stood still.
    if pause:
        await asyncio.sleep(pause)
    ctx.publish(AccountOpened(account_id=ctx.event_id))


@service.on(AccountOpened)
async def note_account(event: AccountOpened, ctx: Context) -> None:
    ledger.execute(
        "INSERT INTO published (cause, event_id) VALUES (?, ?)", (event.account_id, ctx.event_id)
    )


async def _for_ever() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


class _Around:
    """Passes on to `inner` what the subclass does not do itself."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class BusWithPoints(_Around):
    def __init__(self, inner: Bus, acknowledgements: "Acknowledgements") -> None:
        super().__init__(inner)
        self._acknowledgements = acknowledgements

    def subscribe(
        self, subscription: Subscription, on_delivery: Callable[[Delivery], Awaitable[None]]
    ) -> None:
        async def watched(delivery: Delivery) -> None:
            event = delivery.envelope().id
            event_in_hand.set(event)
            fault.in_hand.add(event)
            try:
                await on_delivery(DeliveryWithPoints(delivery, self._acknowledgements))  # type: ignore[arg-type] # as good
            finally:
                fault.in_hand.discard(event)

        self._inner.subscribe(subscription, watched)


class DeliveryWithPoints(_Around):
    def __init__(self, inner: Delivery, acknowledgements: "Acknowledgements") -> None:
        super().__init__(inner)
        self._acknowledgements = acknowledgements

    def done(self) -> None:
        if event_in_hand.get() == MARKED:
            self._acknowledgements.await_next()
        self._inner.done()


class Acknowledgements(_Around):
    """The bus' metrics: they are told when an acknowledgement has been written."""

    def __init__(self, inner: BusMetrics) -> None:
        super().__init__(inner)
        self._written = asyncio.Event()
        self._waiting: asyncio.Task[None] | None = None

    def acknowledged(self, count: int) -> None:
        self._inner.acknowledged(count)
        self._written.set()

    def await_next(self) -> None:
        self._written.clear()
        self._waiting = asyncio.create_task(self._reach_after_ack())

    async def _reach_after_ack(self) -> None:
        await self._written.wait()
        await fault.may_happen("after_ack")


def _surround(owner: object, name: str, *, before: str, after: str) -> None:
    """Make points of what is before and after the method."""
    method = getattr(owner, name)

    async def surrounded(*arguments: Any) -> Any:
        await fault.may_happen(before)
        answer = await method(*arguments)
        await fault.may_happen(after)
        return answer

    setattr(owner, name, surrounded)


def _set_points() -> None:
    open_bus, open_inbox = adapters.open_bus, adapters.open_inbox

    def open_bus_with_points(settings: Settings, name: str, metrics: BusMetrics) -> BusWithPoints:
        acknowledgements = Acknowledgements(metrics)
        return BusWithPoints(open_bus(settings, name, acknowledgements), acknowledgements)  # type: ignore[arg-type] # as good

    def open_inbox_with_points(settings: Settings) -> Inbox:
        inbox = open_inbox(settings)
        _surround(inbox, "claim", before="before_claim", after="after_claim")
        for name in (
            "complete",
            "complete_with",
        ):  # the second one: of stores that keep outgoing events too
            if hasattr(inbox, name):
                _surround(inbox, name, before="after_publish", after="after_complete")
        return inbox

    adapters.open_bus = open_bus_with_points  # type: ignore[assignment] # a bus all the same
    adapters.open_inbox = open_inbox_with_points


if __name__ == "__main__":
    if fault.point:
        _set_points()
    main(service)

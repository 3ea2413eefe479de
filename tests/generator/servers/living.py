"""A library service at work with the login that bootstrap made: every way that an event can take.

It handles, retries, rejects, publishes, reads its own events; its dead letters are replayed.
"""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import aiohttp
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Reject, Service
from chassis import deadletters as letters
from chassis.adapters import open_bus, open_inbox, open_processes
from chassis.bus import NoBusMetrics
from chassis.contracts.event_types import to_event
from chassis.processes.store import Address, Record
from chassis.replica.process import run
from chassis.settings import Settings, load
from tests.brokers.process import free_port
from tests.waiting import eventually

SERVICE = "billing-svc"


def settings_of(bus_url: str, inbox_url: str, **more: str) -> Settings:
    given = {
        "BUS_URL": bus_url,
        "INBOX_URL": inbox_url,
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(free_port()),
    }
    given |= {"BACKOFF_SECONDS": "0.1", "BACKOFF_MAX_SECONDS": "0.2", **more}
    return load({f"CHASSIS_{name}": value for name, value in given.items()})


@dataclass
class Notes:
    """What the handlers were called with; they reject while `rejecting`."""

    handled: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    rejecting: bool = True


def service_of(notes: Notes, *, every_replica: bool) -> Service:
    service = Service(SERVICE, version="1")

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        if event.user_id == "again" and ctx.attempt == 1:
            raise OSError("once")
        if event.user_id == "never" and notes.rejecting:
            raise Reject("never")
        ctx.publish(AccountOpened(account_id=event.user_id))

    @service.on(AccountOpened)
    async def note(event: AccountOpened, ctx: Context) -> None:
        notes.handled.add(event.account_id)

    if every_replica:

        @service.on(AccountOpened, delivery="every_replica")
        async def tell(event: AccountOpened, ctx: Context) -> None:
            notes.told.add(event.account_id)

    return service


async def live(settings: Settings, *, every_replica: bool = False) -> None:
    """Return once the service has done all of it and has stopped. Fails after a while otherwise."""
    notes = Notes()
    await keep_a_process(settings)
    service = service_of(notes, every_replica=every_replica)
    running = asyncio.create_task(run(service, settings))
    bus = open_bus(settings, SERVICE, NoBusMetrics())
    try:
        await bus.start()
        await asyncio.wait_for(asyncio.gather(bus.wait_ready(), ready(settings.http_port)), 60)
        for number, user in enumerate(("good", "again", "never")):
            event = to_event(UserSignedUp(user_id=user), source="shop", id_=f"e-{number}")
            await bus.publish(event)
        await eventually(lambda: notes.handled == {"good", "again"} or running.done())
        assert not running.done(), running.result()
        while (await bus.backlog(SERVICE)).dead < 1:
            await asyncio.sleep(0.05)
        notes.rejecting = False
        assert await letters.replay(bus, SERVICE, letters.Filter()) == 1
        await eventually(lambda: notes.handled == {"good", "again", "never"})
        assert (await bus.backlog(SERVICE)).dead == 0
        await eventually(lambda: notes.told == (notes.handled if every_replica else set()))
    finally:
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 30)
        await bus.close()


async def keep_a_process(settings: Settings) -> None:
    """A process manager writes, reads and lists where the inbox is."""
    inbox = open_inbox(settings)
    await inbox.open()
    store = open_processes(settings, SERVICE, inbox)
    try:
        await asyncio.wait_for(store.open(), 30)
        now = datetime.now(UTC)
        record = Record(Address("order", "o-1"), "i", "active", "acme.State", b"", now, now, "e-1")
        known = await store.load(record.address)
        await store.save(record, 0 if known is None else known.revision)
        saved = await store.load(record.address)
        assert saved is not None
        await store.save(replace(record, status="completed"), saved.revision)
        assert [kept.id async for kept in store.records()] == [record.address.id]
    finally:
        await store.close()
        await inbox.close()


async def ready(port: int) -> None:
    """Return once the service at this port takes events."""
    async with aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)

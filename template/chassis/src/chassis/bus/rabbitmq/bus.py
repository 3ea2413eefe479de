"""The supervisor: one link at a time, rebuilt as one after any loss, while the bus is open.

Implements the bus port. Knows when to connect, to consume and to give up; the link knows how.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import random
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog

from chassis.backoff import backoff
from chassis.bus import (
    Backlog,
    BusMetrics,
    BusUnavailable,
    NoBusMetrics,
    OnDelivery,
    Subscription,
)
from chassis.bus.rabbitmq.link import Link
from chassis.bus.rabbitmq.properties import event_properties
from chassis.bus.rabbitmq.sweep import Decide, sweep
from chassis.bus.rabbitmq.topology import DEAD_LETTERS_AT_MOST, EXCHANGE, Version, dead_letter_name
from chassis.cancellation import cancel
from chassis.contracts.envelope import EncodedEvent
from chassis.telemetry.connections import ConnectionLog
from chassis.urls import each

HEARTBEAT_SECONDS = 15
CANCEL_SECONDS = 2.0
BIND_SECONDS = 30.0
STABLE_SECONDS = 10.0
"""A link that lives longer than this is a good one: its loss is a first failure again."""

_log = structlog.get_logger(__name__)


def reconnect_delay(failures: int) -> float:
    """Seconds to wait after `failures` in a row: at most 3.

    A replica must be ready within 5 seconds of the broker's return, and connecting takes some.
    """
    return backoff(failures, 0.2, 3.0, random)


class RabbitBus:
    """`url` is `amqp://` or `amqps://`, with aiormq's query parameters, such as cafile. It may name
    several hosts of a cluster, separated by commas; they are tried in turn.

    `name` is the connection's name and the `app_id` of published events.
    `backoff` gives the seconds to wait after n failures in a row.
    """

    system = "rabbitmq"

    def __init__(
        self,
        url: str,
        *,
        name: str,
        backoff: Callable[[int], float] = reconnect_delay,
        metrics: BusMetrics | None = None,
    ) -> None:
        self._urls = [_with_heartbeat(one) for one in each(url)]
        self._shown_url = ",".join(_without_secrets(one) for one in each(url))
        self._connection_log = ConnectionLog(self.system, self._shown_url, name)
        self._name = name
        self._backoff = backoff
        self._metrics = metrics or NoBusMetrics()
        self._subscriptions: list[tuple[Subscription, OnDelivery]] = []
        self._link: Link | None = None
        self._known: set[str] = set()
        self._ready = asyncio.Event()
        self._switching = asyncio.Lock()
        self._paused = False
        self._supervisor: asyncio.Task[None] | None = None
        self._handling: set[asyncio.Task[None]] = set()
        logging.getLogger("aiormq.connection").addFilter(_is_not_ours_to_tell)

    @property
    def connected(self) -> bool:
        return self._link is not None and not self._link.lost.is_set()

    @property
    def consuming(self) -> bool:
        return self.connected and self._ready.is_set() and not self._paused

    @property
    def server_version(self) -> Version:
        """`(3, 10, 8)`; empty while not connected."""
        return () if self._link is None else self._link.version

    def subscribe(self, subscription: Subscription, on_delivery: OnDelivery) -> None:
        if self._supervisor is not None:
            raise RuntimeError("subscribe before the bus is started")
        self._subscriptions.append((subscription, on_delivery))

    async def start(self) -> None:
        self._supervisor = asyncio.create_task(self._supervise())

    async def wait_ready(self) -> None:
        await self._ready.wait()

    async def publish(self, message: EncodedEvent) -> None:
        properties = event_properties(message, self._name)
        await self._current().send(EXCHANGE, message.envelope.type, properties, message.body)

    async def pause(self) -> None:
        self._paused = True
        await self._follow()

    async def resume(self) -> None:
        self._paused = False
        await self._follow()

    async def sweep(self, service: str, decide: Decide) -> None:
        await sweep(self._current(), service, decide)

    async def backlog(self, service: str) -> Backlog:
        link = self._current()
        return Backlog(
            await link.length(service),
            await link.length(dead_letter_name(service)),
            DEAD_LETTERS_AT_MOST,
        )

    async def close(self) -> None:
        if self._supervisor is not None:
            await cancel(self._supervisor)
        await self.pause()
        for task in self._handling:
            task.cancel()
        if self._handling:  # bounded: a handler may ignore its cancellation
            await asyncio.wait(self._handling, timeout=CANCEL_SECONDS)
        self._ready.clear()
        link, self._link = self._link, None
        if link is not None:
            await link.close(orderly=True)

    def _current(self) -> Link:
        link = self._link
        if link is None or link.lost.is_set():
            raise BusUnavailable(f"not connected to RabbitMQ at {self._shown_url}")
        return link

    async def _supervise(self) -> None:
        failures = 0
        was_connected = False
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await self._connect()
            except Exception as error:  # noqa: BLE001 - a defect or a bad URL too: only a new try helps
                self._connection_log.unusable(_reason(error))
                failures += 1
            else:
                self._connection_log.connected(".".join(map(str, self.server_version)))
                if was_connected:
                    self._metrics.reconnected()
                was_connected = True
                await self._watch()
                failures = 1 if clock() - started > STABLE_SECONDS else failures + 1
            await self._disconnect()
            await asyncio.sleep(self._backoff(failures))

    async def _connect(self) -> None:
        url = self._urls[0]
        try:
            self._link = await Link.open(
                url, self._name, self._subscriptions, self._spawn, self._metrics, known=self._known
            )
        except BaseException:
            self._urls = [*self._urls[1:], url]  # the next host, the next time
            raise
        await self._follow(raising=True)
        self._ready.set()

    async def _watch(self) -> None:
        if self._link is not None:
            await self._keep_bound(self._link)
            self._connection_log.lost(self._link.reason)

    async def _keep_bound(self, link: Link) -> None:
        """Return when the link is lost. Until then, look for lost bindings now and then."""
        while not link.lost.is_set():
            try:
                async with asyncio.timeout(BIND_SECONDS):
                    await link.lost.wait()
            except TimeoutError:
                try:
                    await link.bind()
                except BusUnavailable as error:
                    link.lose(str(error))

    async def _disconnect(self) -> None:
        self._ready.clear()
        link, self._link = self._link, None
        if link is not None:
            await link.close(orderly=False)

    async def _follow(self, *, raising: bool = False) -> None:
        """Make the link consume or pause, as the last caller asked."""
        async with self._switching:
            link = self._link
            if link is None or link.lost.is_set():
                return
            try:
                await (link.cancel() if self._paused else link.consume())
            except BusUnavailable as error:
                link.lose(str(error))
                if raising:
                    raise

    def _spawn(self, handling: Awaitable[None]) -> None:
        task = asyncio.ensure_future(handling)
        self._handling.add(task)
        task.add_done_callback(self._handled)

    def _handled(self, task: asyncio.Future[None]) -> None:
        self._handling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("handling a delivery raised; the event stays unsettled", exc_info=error)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, BusUnavailable) else f"{type(error).__name__}: {error}"


def _with_heartbeat(url: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query.setdefault("heartbeat", str(HEARTBEAT_SECONDS))
    return urlunsplit(parts._replace(query=urlencode(query)))


def _without_secrets(url: str) -> str:
    """Scheme, host, port and virtual host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _is_not_ours_to_tell(record: logging.LogRecord) -> bool:
    """Drops aiormq's line for every try and loss: the supervisor logs it once, no traceback."""
    return not str(record.msg).startswith(
        ("error when creating transport", "Cancelling cause reader exited")
    )

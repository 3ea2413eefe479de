"""One supervised connection to a NATS server with JetStream, for the bus and for the inbox.

Connection, reply inbox and the adapter's own set-up live and die as one. After any loss, a new
client is made and `on_up` sets everything up again. Nothing that was sent on a lost connection is
sent again by itself. Confirmed publishes and API calls are plain publishes; their replies come
through one inbox.

Knows JetStream's API; knows no events, no service and no inbox.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from random import random
from time import monotonic, time
from typing import Any

import nats.errors
import structlog
from nats.aio.subscription import Subscription

from chassis.backoff import backoff
from chassis.cancellation import cancel
from chassis.jetstream.credentials import servers_in, shown, sign_in
from chassis.jetstream.errors import JetStreamError
from chassis.jetstream.protocol import OnMessage
from chassis.jetstream.replies import Replies, Reply
from chassis.jetstream.wire import WireClient
from chassis.telemetry.connections import ConnectionLog

_log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 5.0  # for each URL
_PING_SECONDS = 3
_SILENT_PINGS = 3  # one may be unanswered because our own loop was blocked
_BACKOFF_SECONDS = 0.2
_BACKOFF_MAX_SECONDS = 1.5
"""A replica must be ready within 5 seconds of the server's return, see handling.outage."""
_ASK_AGAIN_SECONDS = 0.5
_LOOK_UP_SECONDS = 3.0
_CHECK_SECONDS = 2.0
_STEADY_SECONDS = 10.0
"""A connection that lives longer than this is a good one: the next backoff starts anew."""


class JetStream:
    """`url`: one or more `nats://` or `tls://` servers, separated by commas.

    Its parameters name files: `cafile`, `certfile` and `keyfile` a private CA and a client
    certificate, `credsfile` or `nkeyfile` what signs in.

    `timeout` (seconds) bounds each answer of the server. A late answer, and every answer still open
    when the connection is lost, raises `unavailable`. `on_up` runs on each new connection before it
    counts as up, `on_down` when it is lost, `on_tick` at least every `tick` seconds in between.
    `check` runs every two seconds; if it raises, the connection is lost and made anew.
    `oldest` is the oldest usable server version.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        timeout: float,
        unavailable: type[ConnectionError],
        oldest: tuple[int, int],
        on_up: Callable[[], Awaitable[None]],
        on_down: Callable[[], None] = lambda: None,
        on_tick: Callable[[], None] = lambda: None,
        on_reconnect: Callable[[], None] = lambda: None,
        check: Callable[[], Awaitable[None]] | None = None,
        tick: float = 1.0,
    ) -> None:
        self._urls = servers_in(url)
        self._given = url
        self._name = name
        self._timeout = timeout
        self.unavailable = unavailable
        self._oldest = oldest
        self._on_up = on_up
        self._on_down = on_down
        self._on_tick = on_tick
        self._on_reconnect = on_reconnect
        self._check = check
        self._tick_seconds = tick
        self._client: WireClient | None = None
        self._lost: asyncio.Future[str] | None = None
        self._up = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._replies = Replies(self.where, timeout, unavailable, self.suspect)
        self._clock_offset = 0.0
        self._was_up = self._lived = self._closing = False
        self._connection_log = ConnectionLog("nats", self.where, name)
        self.trouble = "not connected yet"

    @property
    def up(self) -> bool:
        return self._up.is_set()

    @property
    def where(self) -> str:
        """The servers without user, password and token, for logs and errors."""
        return shown(self._urls)

    @property
    def max_payload(self) -> int:
        """The most bytes of one message, body and headers together."""
        return self._connected().max_payload

    @property
    def nodes(self) -> int:
        """How many servers the cluster has, by what the connected one says; 1 without a cluster."""
        return self._connected().nodes

    def server_time(self) -> float:
        """Seconds since the epoch by the server's clock, estimated from its last answer."""
        return time() + self._clock_offset

    def start(self) -> None:
        """Connect in the background and stay connected. Calling it again does nothing."""
        if self._supervisor is None:
            self._closing = False
            self._supervisor = asyncio.create_task(self._supervise(), name=f"nats {self._name}")

    async def wait_up(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - what it raises is ours to say
        """Return when connected and set up. Raises `unavailable` after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError:
            raise self.unavailable(
                f"no connection to NATS at {self.where}: {self.trouble}"
            ) from None

    async def close(self) -> None:
        """Write out all messages, then disconnect. Takes a few seconds at most, in any state."""
        if self.up:
            with suppress(nats.errors.Error, OSError):  # lost meanwhile
                await self.flush()
        self._closing = True
        if self._supervisor is not None:
            await cancel(self._supervisor)
            self._supervisor = None

    async def flush(self) -> None:
        """Return when the server has read all messages. Raises nats.errors.Error."""
        client = self._connected()
        client.write_out()
        await client.flush(timeout=max(1, round(self._timeout)))

    def suspect(self, why: str) -> None:
        """Connect and set up anew: only that mends, for example, a consumer that is gone."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(why)

    def post(self, subject: str, body: bytes = b"", reply: str = "") -> None:
        """Publish without a confirmation. Does nothing when there is no connection."""
        if self._client is not None:
            self._client.send(subject, body, reply)

    def ask(self, subject: str, body: bytes, headers: bytes = b"") -> asyncio.Future[Reply]:
        """Publish; gives the future of the answer, which raises `unavailable` or JetStreamError."""
        client = self._connected()
        reply, future = self._replies.expect()
        client.send(subject, body, reply, headers)
        return future

    async def api(self, call: str, **request: Any) -> Reply:
        """One call of JetStream's API, such as `STREAM.INFO.EVENTS`."""
        return await self.ask(f"$JS.API.{call}", json.dumps(request).encode() if request else b"")

    async def look_up(self, call: str) -> Reply:
        """A call that only reads, such as `STREAM.INFO.EVENTS`.

        A stream or a consumer without a leader gives no answer, or one that names no leader. The
        call is repeated, so an answer comes soon after an election. Raises `unavailable` if there
        is none in time.
        """
        deadline = monotonic() + min(self._timeout, _LOOK_UP_SECONDS)
        every: list[asyncio.Future[Reply]] = []
        asked: set[asyncio.Future[Reply]] = set()
        try:
            while monotonic() < deadline:
                if self._client is None:
                    raise self.unavailable(f"{call}: the connection was lost meanwhile")
                every.append(self.ask(f"$JS.API.{call}", b""))
                asked.add(every[-1])
                done, asked = await asyncio.wait(
                    asked, timeout=_ASK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for answer in [future.result() for future in done]:
                    if "cluster" not in answer or answer["cluster"].get("leader"):
                        return answer
                if done:  # it elects one
                    await asyncio.sleep(_ASK_AGAIN_SECONDS / 2)
        finally:
            for future in every:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # read, or asyncio logs it
        raise self.unavailable(f"{call}: no leader in NATS at {self.where} answers")

    async def route(self, subject: str, on_message: OnMessage) -> Subscription:
        return await self._connected().route(subject, on_message)

    def new_inbox(self) -> str:
        return self._connected().new_inbox()

    async def read_clock(self, stream: str) -> Reply:
        """The stream's information, which also tells the server's time."""
        asked = time()
        info = await self.look_up(f"STREAM.INFO.{stream}")
        if "ts" in info:
            self._clock_offset = (
                datetime.fromisoformat(info["ts"]).timestamp() - (asked + time()) / 2
            )
        return info

    def _connected(self) -> WireClient:
        if self._client is None:
            raise self.unavailable(f"no connection to NATS at {self.where}: {self.trouble}")
        return self._client

    async def _supervise(self) -> None:
        failures = 0
        while not self._closing:  # which holds even if nats-py has swallowed the cancellation
            began = monotonic()
            self._lived = False
            try:
                await self._live()
            except (OSError, TimeoutError, nats.errors.Error, JetStreamError) as error:
                self.trouble = str(error) or type(error).__name__
            except Exception as error:  # noqa: BLE001 - a defect must not end the only task that connects
                self.trouble = repr(error)
                _log.exception("a defect of the chassis: the connection to NATS has ended")
            (self._connection_log.lost if self._lived else self._connection_log.unusable)(
                self.trouble
            )
            failures = 0 if self._lived and monotonic() - began > _STEADY_SECONDS else failures + 1
            await asyncio.sleep(
                backoff(failures + 1, _BACKOFF_SECONDS, _BACKOFF_MAX_SECONDS, random, least=0.25)
            )

    async def _live(self) -> None:
        """One connection from beginning to end. Raises, or returns with the loss in `trouble`."""
        lost = self._lost = asyncio.get_running_loop().create_future()
        lost.add_done_callback(lambda _: self._cut_off())
        client = WireClient()
        watchers: list[asyncio.Task[None]] = []
        try:
            await self._connect(client, lost)
            self._client = client
            prefix = client.new_inbox() + "."
            self._replies.begin(prefix)
            await client.route(prefix + "*", self._replies.on_reply)
            watchers.append(asyncio.create_task(self._watch(client)))
            await self._on_up()
            if self._check is not None:
                watchers.append(asyncio.create_task(self._keep_checking(self._check)))
            if not lost.done():
                self._is_up(_dotted(client.server_version))
            self.trouble = await lost
        finally:
            self._cut_off()
            for watcher in watchers:
                watcher.cancel()
            await client.discard()

    def _is_up(self, version: str) -> None:
        self._up.set()
        self._lived = True
        self._connection_log.connected(version)
        if self._was_up:
            self._on_reconnect()
        self._was_up = True

    async def _connect(self, client: WireClient, lost: asyncio.Future[str]) -> None:
        errors: list[Exception] = []

        async def on_error(error: Exception) -> None:
            errors[:] = [error]

        async def on_loss() -> None:
            if not lost.done():
                lost.set_result(
                    f"connection lost: {errors[0] if errors else 'closed by the server'}"
                )

        try:
            async with asyncio.timeout(_CONNECT_SECONDS * len(self._urls)):
                await client.connect(
                    **sign_in(self._given),
                    name=self._name,
                    error_cb=on_error,
                    disconnected_cb=on_loss,
                    closed_cb=on_loss,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_PING_SECONDS,
                    # _watch judges unanswered pings: nats-py can hang together with the server.
                    max_outstanding_pings=1_000_000,
                )
        except (nats.errors.NoServersError, TimeoutError):
            # TimeoutError: nats-py can hang after a failed TLS handshake.
            raise OSError(
                f"cannot connect: {errors[0] if errors else 'no server answers'}"
            ) from None
        if client.server_version < self._oldest:
            raise OSError(
                f"the server is {_dotted(client.server_version)}; "
                f"at least {_dotted(self._oldest)} is needed"
            )

    def _cut_off(self) -> None:
        """Fail every caller that waits for an answer of the lost connection."""
        self._up.clear()
        if self._client is None:
            return
        self._client = None
        known = self._lost is not None and self._lost.done() and not self._lost.cancelled()
        reason = self._lost.result() if self._lost is not None and known else "disconnected"
        self._replies.fail(reason)
        self._on_down()

    async def _watch(self, client: WireClient) -> None:
        """Fail what waits too long, let the adapter tick, notice a connection that hangs."""
        while True:
            await asyncio.sleep(min(self._tick_seconds, self._timeout / 4))
            self._replies.tick()
            if self.up:
                self._on_tick()
            if client.unanswered_pings >= _SILENT_PINGS:
                self.suspect("the server does not answer pings")

    async def _keep_checking(self, check: Callable[[], Awaitable[None]]) -> None:
        """An open connection is no proof: what is behind it can have lost its leader."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                await check()
            except (JetStreamError, OSError) as error:
                self.suspect(str(error))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))

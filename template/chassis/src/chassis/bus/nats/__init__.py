"""The bus on NATS JetStream (nats-server 2.12 or newer).

Stream `EVENTS`   events.<type>              published events; a service reads the types it handles
                  replay.<service>.<type>    a later attempt or a replay, for one service only
                  delayed.<service>.<place>  a later attempt in the server's schedule, until due
                  alone.<service>.<type>     suspected of killing the process, handled one at a time
Stream `DLQ_<service>`  dlq.<service>.<id>   dead letters, bounded: a full stream refuses a letter,
                                             and the message stays

A service has two durable consumers, `<service>` and `<service>-alone`. A message that kills the
process is delivered again and again. After five deliveries it is set apart, and if it kills the
process there too, it becomes a dead letter with the reason `crash_loop`. Messages that were
prefetched beside it are handled.

An event is published without `Nats-Msg-Id`. The server remembers every such id for two minutes and
would silently drop another event under the same id; the inbox recognises duplicates. Copies of the
chassis do carry one, made from their place in the stream: a crash between copying and
acknowledging makes no second copy.

Knows no handler, no inbox and no retry policy.
"""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import nats.errors

from chassis.bus import (
    Backlog,
    BusMetrics,
    BusUnavailable,
    DeadLetter,
    NoBusMetrics,
    OnDelivery,
    Subscription,
    Unpublishable,
    Verdict,
)
from chassis.bus.history import History
from chassis.bus.nats.copies import DEDUPLICATE, carried, named, originals, read_letter
from chassis.bus.nats.event_headers import event_headers
from chassis.bus.nats.lane import EVENTS, Lane
from chassis.bus.nats.lanes import AloneLane, PrivateLane, SharedLane
from chassis.contracts.envelope import EncodedEvent
from chassis.jetstream.connection import JetStream
from chassis.jetstream.errors import (
    NO_CONSUMER,
    NO_MESSAGE,
    NO_STREAM,
    JetStreamError,
)
from chassis.jetstream.streams import Config, Streams, longest
from chassis.jetstream.wire import header_block

_SUBJECTS = ["events.>", "replay.>", "delayed.>", "alone.>"]
_EVENTS_DEFAULTS: Config = {"max_age": 7 * 86_400 * 10**9}
_LETTERS_DEFAULTS: Config = {"max_msgs": 100_000, "max_bytes": 256 * 1024 * 1024}
_TYPE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


class NatsBus:
    """`url`: one or more `nats://` or `tls://` URLs, separated by commas, with user and password or
    a token (percent-encoded; the login of the first URL holds for all).

    `ack_wait` (seconds): if a replica gives no sign of life for this long, another replica gets its
    deliveries. `timeout` (seconds) bounds each confirmation. `replicas` is the least number of
    copies of each stream. `retention` (seconds) and `max_bytes` bound the events, `dead_letters`
    and `dead_letter_bytes` the dead letters. None takes the default for a new stream and leaves an
    existing one as it is. Existing streams are raised to a value that is given, never lowered.
    """

    system = "nats"

    def __init__(
        self,
        url: str,
        *,
        name: str,
        ack_wait: float,
        metrics: BusMetrics | None = None,
        timeout: float = 5.0,
        replicas: int = 1,
        retention: float | None = None,
        max_bytes: int | None = None,
        dead_letters: int | None = None,
        dead_letter_bytes: int | None = None,
    ) -> None:
        self._ack_wait = ack_wait
        self._metrics = metrics or NoBusMetrics()
        self._events_bounds = _given(
            max_age=None if retention is None else round(retention * 1e9), max_bytes=max_bytes
        )
        self._letters_bounds = _given(max_msgs=dead_letters, max_bytes=dead_letter_bytes)
        self._lanes: list[Lane] = []
        self._types: set[str] = set()
        self._paused = False
        self._link = JetStream(
            url,
            name=name,
            timeout=timeout,
            unavailable=BusUnavailable,
            oldest=(2, 12),
            on_up=self._set_up,
            on_down=self._lost,
            on_tick=self._tick,
            on_reconnect=self._metrics.reconnected,
            check=self._check,
            tick=min(1.0, ack_wait / 6),
        )
        self._streams = Streams(self._link, replicas)

    @property
    def connected(self) -> bool:
        return self._link.up

    @property
    def consuming(self) -> bool:
        return self._link.up and not self._paused and all(lane.live for lane in self._lanes)

    def subscribe(self, subscription: Subscription, on_delivery: OnDelivery) -> None:
        service = subscription.service

        def add(kind: type[Lane], subscription: Subscription, consumer: str) -> None:
            self._lanes.append(
                kind(
                    self._link,
                    subscription,
                    on_delivery,
                    consumer=consumer,
                    ack_wait=self._ack_wait,
                    metrics=self._metrics,
                )
            )

        if subscription.mode == "every_replica":
            add(PrivateLane, subscription, f"{service}-{uuid4().hex}")
            return
        if any(lane.consumer == service for lane in self._lanes):
            raise ValueError(
                f"{service} is subscribed already: one subscription holds all its types"
            )
        if subscription.types is None:
            raise ValueError(
                f"{service} must name the types it takes: only every_replica takes all"
            )
        shared, alone = _shared(service)
        add(SharedLane, subscription, shared)
        add(AloneLane, replace(subscription, prefetch=1), alone)

    async def start(self) -> None:
        self._link.start()

    async def wait_ready(self) -> None:
        await self._link.wait_up()

    async def publish(self, message: EncodedEvent) -> None:
        """Unpublishable: no valid type, or too large for the server together with its headers."""
        type_ = message.envelope.type
        if type_ not in self._types:
            if not _TYPE.fullmatch(type_):
                raise Unpublishable(f"{type_!r} is not the full name of a message type")
            self._types.add(type_)
        headers = event_headers(message.envelope)
        if len(headers) + len(message.body) > self._link.max_payload:
            raise Unpublishable(
                f"the event {type_} has {len(message.body)} bytes, with its headers more than the "
                f"server takes: {self._link.max_payload} (max_payload)"
            )
        try:
            await self._link.ask("events." + type_, message.body, headers)
        except JetStreamError as error:
            raise BusUnavailable(f"{EVENTS} did not store the event {type_}: {error}") from error

    async def pause(self) -> None:
        self._paused = True
        await asyncio.gather(*(lane.pause() for lane in self._lanes))

    async def resume(self) -> None:
        self._paused = False
        try:
            await asyncio.gather(*(lane.resume() for lane in self._lanes))
        except (OSError, nats.errors.Error) as error:
            self._link.suspect(f"could not resume: {error}")

    async def sweep(self, service: str, decide: Callable[[DeadLetter], Awaitable[Verdict]]) -> None:
        stream = f"DLQ_{service}"
        try:
            last: int = (await self._link.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"]
        except JetStreamError as error:
            if error.code == NO_STREAM:
                return
            raise BusUnavailable(f"cannot read the dead letters of {service}: {error}") from error
        at = 1
        while at <= last and (entry := await self._next_letter(service, at, last)) is not None:
            at = entry["seq"] + 1
            await self._carry_out(service, entry, decide)

    async def backlog(self, service: str) -> Backlog:
        waiting = [
            await self._count(f"CONSUMER.INFO.{EVENTS}.{name}", "num_pending")
            for name in _shared(service)
        ]
        letters = f"STREAM.INFO.DLQ_{service}"
        return Backlog(
            sum(waiting),
            await self._count(letters, "state", "messages"),
            max(await self._count(letters, "config", "max_msgs"), 0) or None,
        )

    async def close(self) -> None:
        await self.pause()
        await asyncio.gather(*(lane.close() for lane in self._lanes))
        await self._link.close()

    async def _count(self, request: str, *path: str) -> int:
        """A number of the server's answer; 0 if its subject does not exist yet."""
        try:
            answer: Any = await self._link.api(request)
        except JetStreamError as error:
            if error.code in {NO_STREAM, NO_CONSUMER}:
                return 0
            raise BusUnavailable(f"the server does not tell the backlog: {error}") from error
        for name in path:
            answer = answer[name]
        return int(answer)

    async def _next_letter(self, service: str, at: int, last: int) -> dict[str, Any] | None:
        try:
            found = await self._link.api(
                f"STREAM.MSG.GET.DLQ_{service}", seq=at, next_by_subj=f"dlq.{service}.>"
            )
        except JetStreamError as error:
            if error.code == NO_MESSAGE:
                return None
            raise BusUnavailable(f"cannot read the dead letters of {service}: {error}") from error
        message: dict[str, Any] = found["message"]
        return message if message["seq"] <= last else None

    async def _carry_out(
        self,
        service: str,
        entry: dict[str, Any],
        decide: Callable[[DeadLetter], Awaitable[Verdict]],
    ) -> None:
        block = base64.b64decode(entry.get("hdrs", ""))
        body = base64.b64decode(entry.get("data", ""))
        letter = read_letter(entry["subject"].rpartition(".")[2], block, body)
        verdict = await decide(letter)
        if verdict is Verdict.KEEP:
            return
        try:
            if verdict is Verdict.REPLAY:
                # The time of death is in the id, so a later death can be replayed too.
                once = [f"{DEDUPLICATE}: replay-{letter.id}-{entry['time']}".encode()]
                history = History(replays=letter.replays).replayed()
                lines = once + named(**history.headers()) + carried(originals(block, moved=True))
                headers = header_block(lines)
                await self._link.ask(f"replay.{service}.{letter.type}", body, headers)
            await self._link.api(
                f"STREAM.MSG.DELETE.DLQ_{service}", seq=entry["seq"], no_erase=True
            )
        except JetStreamError as error:
            if error.code != NO_MESSAGE:  # another sweep removed it at the same time
                raise BusUnavailable(
                    f"the dead letter {letter.id} of {service} stays: {error}"
                ) from error

    async def _set_up(self) -> None:
        await self._streams.provide(
            {"name": EVENTS, "subjects": _SUBJECTS, "allow_msg_schedules": True}
            | _EVENTS_DEFAULTS
            | self._events_bounds,
            self._grown_events,
        )
        for service in {lane.subscription.service for lane in self._lanes}:
            await self._streams.provide(
                {"name": f"DLQ_{service}", "subjects": [f"dlq.{service}.>"], "discard": "new"}
                | _LETTERS_DEFAULTS
                | self._letters_bounds,
                lambda config: _raised(config, self._letters_bounds),
            )
        self._streams.warn_of_few_replicas()
        for lane in self._lanes:
            await lane.set_up()
        for lane in self._lanes:
            lane.pull()

    async def _check(self) -> None:
        await asyncio.gather(self._streams.check(EVENTS), *(lane.check() for lane in self._lanes))

    def _grown_events(self, config: Config) -> Config:
        """What an `EVENTS` stream lacks that an operator or another service made."""
        lacking = [subject for subject in _SUBJECTS if subject not in config["subjects"]]
        return {
            "subjects": config["subjects"] + lacking,
            "allow_msg_schedules": True,
        } | _raised(config, self._events_bounds)

    def _lost(self) -> None:
        for lane in self._lanes:
            lane.lost()

    def _tick(self) -> None:
        for lane in self._lanes:
            lane.tick()


def _shared(service: str) -> tuple[str, str]:
    """The durable consumers of a service: its own, and the one for suspicious messages."""
    return service, f"{service}-alone"


def _given(**bounds: int | None) -> Config:
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _raised(config: Config, bounds: Config) -> Config:
    """The stream's bounds where `bounds` are higher."""
    return {name: longest(config[name], bound) for name, bound in bounds.items()}

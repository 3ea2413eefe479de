"""One JetStream consumer: the standing pull, the deliveries in hand, dead letters and moved copies.

Knows the wire; knows no handler, no inbox and no retry policy.
"""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import Any

import nats.errors
import structlog
from nats.aio.subscription import Subscription as Inbox

from chassis.bus import (
    BusMetrics,
    BusUnavailable,
    Failure,
    OnDelivery,
    Subscription,
    Unpublishable,
)
from chassis.bus.dead_letters import in_brief, letter_id
from chassis.bus.history import History
from chassis.bus.nats.copies import DEDUPLICATE, carried, letter_lines, named
from chassis.bus.nats.delivery import NatsDelivery
from chassis.contracts.envelope import NATS_PREFIX
from chassis.jetstream.connection import JetStream
from chassis.jetstream.errors import WRONG_LAST_SEQUENCE, JetStreamError
from chassis.jetstream.replies import Reply
from chassis.jetstream.wire import decode_headers, header_block, status_line, status_of

EVENTS = "EVENTS"
HEADERS_AT_MOST = 65_535
"""Bytes of headers that a stream takes of one message (error 10097)."""

_CUT_NOTE = 150  # bytes of headers for the words that a body is cut, percent-encoded
_PULL_SECONDS = 30
_HEARTBEAT_SECONDS = 5.0
CANCEL_SECONDS = 2.0
_GATHER_SECONDS = 0.002  # one request covers the places that get free within this time
_GOES_ON = frozenset({"404", "408"})

_log = structlog.get_logger(__name__)


class Lane:
    """What all consumers share. Subclasses put a message aside and give it back."""

    def __init__(
        self,
        link: JetStream,
        subscription: Subscription,
        on_delivery: OnDelivery,
        *,
        consumer: str,
        ack_wait: float,
        metrics: BusMetrics,
    ) -> None:
        self.link = link
        self.subscription = subscription
        self.consumer = consumer
        self.live = False
        self.paused = False
        self._on_delivery = on_delivery
        self._ack_wait = ack_wait
        self._metrics = metrics
        self._prefetch = subscription.prefetch
        self._leader: str | None = None
        self._inbox: Inbox | None = None
        self._inbox_name = ""
        self._in_hand: set[NatsDelivery] = set()
        self._asked_for = 0
        self._gathering: asyncio.TimerHandle | None = None
        self._heard = self._kept_alive = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def config(self) -> dict[str, Any]:
        """The consumer's configuration at the server.

        `max_deliver` has no limit: the server gives up no message.
        """
        types = self.subscription.types
        return {
            "name": self.consumer,
            "ack_policy": "explicit",
            "ack_wait": round(self._ack_wait * 1e9),
            "max_deliver": -1,
            "deliver_policy": "new",
            "num_replicas": 0,  # as many as the stream has
            "filter_subjects": ["events.>"]
            if types is None
            else sorted(f"events.{type_}" for type_ in types),
            "max_ack_pending": max(1000, self._prefetch * 20),  # of all replicas together
        }

    def history(self, delivery: NatsDelivery) -> History:
        raise NotImplementedError

    async def later(self, delivery: NatsDelivery, delay: float, *, counted: bool) -> None:
        raise NotImplementedError

    async def hand_back(self, delivery: NatsDelivery) -> None:
        delivery.refuse()

    def receive(self, delivery: NatsDelivery) -> Awaitable[None]:
        """Handle a delivery that came in."""
        return self._on_delivery(delivery)

    async def create(self) -> None:
        """Create the consumer, or change the existing one."""
        await self.link.api(
            f"CONSUMER.CREATE.{EVENTS}.{self.consumer}", stream_name=EVENTS, config=self.config()
        )

    async def set_up(self) -> None:
        """Create or change the consumer and listen to it; `pull` begins."""
        await self.create()
        self.live = True
        if not self.paused:
            await self._listen()

    async def check(self) -> None:
        """Raises BusUnavailable if the pull is dead: its consumer has another leader, or none."""
        await self.look()

    async def look(self) -> Reply:
        """The consumer's information; see `check`."""
        info = await self.link.look_up(f"CONSUMER.INFO.{EVENTS}.{self.consumer}")
        leader = info.get("cluster", {}).get("leader")
        if self._leader not in {None, leader}:
            raise BusUnavailable(f"the consumer {self.consumer} has another leader: {leader}")
        self._leader = leader
        return info

    def lost(self) -> None:
        """The connection is gone, and its pulls and deliveries in hand with it."""
        self.live = False
        self._leader = None
        self._inbox = None
        self._asked_for = 0
        for delivery in list(self._in_hand):
            delivery.close()

    async def pause(self) -> None:
        self.paused = True
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            with suppress(
                nats.errors.Error, OSError
            ):  # lost meanwhile: the server has forgotten the pulls too
                await inbox.drain()  # type: ignore[no-untyped-call] # nats-py says nothing
        self._asked_for = 0

    async def resume(self) -> None:
        self.paused = False
        if self.live:
            if self._inbox is None:
                await self._listen()
            self.pull()

    async def close(self) -> None:
        """Hand back what is in hand. Pause first."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # bounded: a handler may ignore its cancellation
            await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)
        for delivery in list(self._in_hand):
            await self._return(delivery)

    def tick(self) -> None:
        """About once a second: keep the deliveries in hand, and notice a dead pull."""
        now = monotonic()
        if now - self._kept_alive >= self._ack_wait / 3:
            self._kept_alive = now
            for delivery in self._in_hand:
                delivery.keep_alive()
        if self._asked_for and now - self._heard > 3 * _HEARTBEAT_SECONDS:
            self.link.suspect(f"the consumer {self.consumer} sends neither messages nor heartbeats")

    def release(self, delivery: NatsDelivery) -> None:
        self._in_hand.discard(delivery)
        self.pull()

    def post(self, ack: str, answer: bytes) -> None:
        self.link.post(ack, answer)

    def acknowledge(self, _: NatsDelivery, ack: str) -> None:
        self.link.post(ack, b"+ACK")
        self._metrics.acknowledged(1)

    async def bury(self, delivery: NatsDelivery, failure: Failure) -> None:
        """Store as a dead letter, once: a second try finds the letter there."""
        service = self.subscription.service
        replays = self.history(delivery).replays
        letter = letter_id(service, delivery.headers, delivery.body, replays)
        headers, body = self._letter(delivery, failure, replays)
        try:
            await self.link.ask(f"dlq.{service}.{letter}", body, headers)
        except JetStreamError as error:
            if error.code != WRONG_LAST_SEQUENCE:
                raise BusUnavailable(
                    f"the dead letters of {service} took no further one: {error}"
                ) from error

    def _letter(
        self, delivery: NatsDelivery, failure: Failure, replays: int
    ) -> tuple[bytes, bytes]:
        """Headers and body of a dead letter.

        If there is no room: no stack and a short message, then a part of the body, then no headers
        but those of CloudEvents, then none.
        """
        lines, body = delivery.original_lines(), delivery.body
        event = [line for line in lines if line.lower().startswith(NATS_PREFIX.encode())]
        brief = in_brief(failure)

        def headers(lines: list[bytes], failure: Failure) -> bytes:
            expected = named(Nats_Expected_Last_Subject_Sequence=0)
            return header_block(expected + letter_lines(lines, delivery.type, failure, replays))

        for words in (failure, brief):
            block = headers(lines, words)
            if self._fits(block, body):
                return block, body
        for kept in (lines, event, []):
            room = self.link.max_payload - len(headers(kept, brief)) - _CUT_NOTE
            note = (
                f" (only {max(0, room)} of {len(body)} bytes are kept)" if room < len(body) else ""
            )
            block = headers(kept, replace(brief, message=brief.message + note))
            if room >= 0 and len(block) <= HEADERS_AT_MOST:
                break
        return block, body[: max(0, room)]

    async def move(self, delivery: NatsDelivery, subject: str, extra: list[bytes]) -> None:
        """Publish a copy, confirmed, then acknowledge. Raises Unpublishable if it has no room."""
        await self.copy(delivery, subject, extra)
        delivery.done()

    async def copy(self, delivery: NatsDelivery, subject: str, extra: list[bytes]) -> None:
        """Publish a copy, confirmed; the server drops a second one, by its id. Raises as `move`."""
        once = [f"{DEDUPLICATE}: {self.subscription.service}-{delivery.place}".encode()]
        headers = header_block(once + extra + carried(delivery.original_lines()))
        try:
            await self._store(subject, delivery.body, headers)
        except JetStreamError as error:
            raise BusUnavailable(f"{EVENTS} took no copy of a message: {error}") from error

    async def _store(self, subject: str, body: bytes, headers: bytes) -> None:
        if not self._fits(headers, body):
            raise Unpublishable(
                f"a message of {len(body)} bytes leaves no room for the {len(headers)} bytes of "
                f"its copy's headers: the server takes {self.link.max_payload} (max_payload), "
                f"and {HEADERS_AT_MOST} of headers"
            )
        await self.link.ask(subject, body, headers)

    def _fits(self, headers: bytes, body: bytes) -> bool:
        return len(headers) <= HEADERS_AT_MOST and len(headers) + len(body) <= self.link.max_payload

    async def _listen(self) -> None:
        self._asked_for = 0
        self._heard = self._kept_alive = monotonic()
        self._inbox_name = self.link.new_inbox()
        self._inbox = await self.link.route(self._inbox_name, self._on_message)

    def pull(self) -> None:
        """Ask for a delivery per free place: at once if half are free, else a little later."""
        free = self._free_places()
        if free <= 0:
            return
        if free * 2 >= self._prefetch:
            self._ask_for(free)
        elif self._gathering is None and free >= self._asked_for:
            self._gathering = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        if (free := self._free_places()) > 0:
            self._ask_for(free)

    def _free_places(self) -> int:
        """How many deliveries may be asked for in addition."""
        if self.paused or self._inbox is None:
            return 0
        return self._prefetch - len(self._in_hand) - self._asked_for

    def _ask_for(self, count: int) -> None:
        if not self._asked_for:
            self._heard = monotonic()
        self._asked_for += count
        request = {
            "batch": count,
            "expires": _PULL_SECONDS * 10**9,
            "idle_heartbeat": round(_HEARTBEAT_SECONDS * 1e9),
        }
        pull = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.{self.consumer}"
        self.link.post(pull, json.dumps(request).encode(), self._inbox_name)

    def _on_message(self, subject: bytes, ack: bytes, body: bytes, block: bytes | None) -> None:
        if not ack:
            self._on_status(block)
            return
        self._heard = monotonic()  # the server sends no heartbeat while messages come
        if self._asked_for:
            self._asked_for -= 1
        delivery = NatsDelivery(self, subject.decode("utf-8", "replace"), ack.decode(), body, block)
        self._in_hand.add(delivery)
        work = self._return(delivery) if self.paused else self._run(delivery)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_status(self, block: bytes | None) -> None:
        """From the server itself: a heartbeat, or why a pull ended."""
        self._heard = monotonic()
        status = status_of(block)
        if status == "100":
            return
        if status not in _GOES_ON:
            self.link.suspect(f"the consumer {self.consumer} stopped: {status_line(block)}")
            return
        pending = decode_headers(block).get("Nats-Pending-Messages", "")
        self._asked_for = max(0, self._asked_for - int(pending)) if pending.isdecimal() else 0
        self.pull()

    async def _return(self, delivery: NatsDelivery) -> None:
        try:
            await self.hand_back(delivery)
        except BusUnavailable as error:
            _log.warning(
                "an event could not be handed back; it comes again after the ack wait",
                error=str(error),
            )

    async def _run(self, delivery: NatsDelivery) -> None:
        try:
            await self.receive(delivery)
        except Exception:  # noqa: BLE001 - a defect in the consumer must not lose the event
            _log.exception(
                "handling a delivery raised; the event stays unsettled",
                consumer=self.consumer,
                type=delivery.type,
            )
            delivery.refuse(self._ack_wait)

"""The three kinds of consumers: of a service, of its suspicious messages, of this process alone.

Knows how each counts attempts and gives messages back; knows no handler and no retry policy.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from chassis.bus import BusUnavailable, Failure, Unpublishable
from chassis.bus.history import History
from chassis.bus.nats.copies import named, schedule
from chassis.bus.nats.delivery import NatsDelivery
from chassis.bus.nats.filters import united
from chassis.bus.nats.lane import EVENTS, Lane
from chassis.contracts.envelope import format_time
from chassis.jetstream.errors import (
    CONSUMER_EXISTS,
    NO_CONSUMER,
    NO_CONSUMER_TO_UPDATE,
    JetStreamError,
)

_SUSPICIOUS = 5  # after more deliveries without an outcome, a message may kill the process
_CONDEMNED = 3  # after more deliveries on its own without an outcome, it does
_OUTLIVED_AT_MOST = 100  # messages that a process remembers to have outlived

_OVERWRITTEN_SECONDS = 0.25
"""Another replica that read the consumer before our change writes it within this time."""

_UNTRIED = History()
_START = ("deliver_policy", "opt_start_seq")

_log = structlog.get_logger(__name__)


class SharedLane(Lane):
    """The durable consumer of a service.

    A message that waits for a later attempt is a copy in the server's schedule, not an unsettled
    delivery. However many wait, the others get through. The copy's headers count the attempts, so
    the number is exact even if deliveries are lost.
    """

    _told_of_stray = False
    _settled: int | None = None
    """All events up to this sequence are settled, by the server's last word; None before it."""
    _stream_of = ""
    """When the stream of that sequence was created: another one begins to count anew."""

    def config(self) -> dict[str, Any]:
        config = super().config()
        replays = f"replay.{self.subscription.service}.>"
        return config | {
            "durable_name": self.consumer,
            "filter_subjects": [*config["filter_subjects"], replays],
        }

    async def create(self) -> None:
        """Add this version's filters and keep the others.

        Another version of the service may need them, and would lose events without them. The server
        can only read and write a consumer, not add to it. So after a change we look at it again.
        """
        changed = False
        while True:
            there = await self._config_there()
            config = self.config()
            if there is None:
                config |= await self._start()
            else:
                config |= {name: there[name] for name in _START if name in there}
                config["filter_subjects"] = united(
                    there["filter_subjects"], config["filter_subjects"]
                )
                compared = ["filter_subjects"] if changed else list(config)
                if all(there.get(name) == config[name] for name in compared):
                    return
            request = {
                "stream_name": EVENTS,
                "config": config,
                "action": "create" if there is None else "update",
            }
            try:
                await self.link.api(f"CONSUMER.CREATE.{EVENTS}.{self.consumer}", **request)
            except JetStreamError as error:
                if error.code not in {CONSUMER_EXISTS, NO_CONSUMER_TO_UPDATE}:
                    raise  # otherwise the consumer came or went meanwhile
                continue
            changed = True
            if there is not None:
                await asyncio.sleep(_OVERWRITTEN_SECONDS)

    async def set_up(self) -> None:
        await super().set_up()
        self._stream_of = await self._stream_created()
        await self.check()

    async def check(self) -> None:
        self._settled = (await self.look()).get("ack_floor", {}).get("stream_seq", 0)

    async def _stream_created(self) -> str:
        return str((await self.link.look_up(f"STREAM.INFO.{EVENTS}"))["created"])

    async def _start(self) -> dict[str, Any]:
        """Where a new consumer starts: at the next event, unless this process knew an older one.

        What comes again because of this is a duplicate for the inbox.
        """
        if self._settled is None:
            return {}
        if await self._stream_created() != self._stream_of:
            _log.error(
                "the stream was deleted, with all events and retries that waited in it; "
                "the consumer takes the new stream from its beginning",
                stream=EVENTS,
                consumer=self.consumer,
            )
            return {"deliver_policy": "all"}
        _log.warning(
            "the consumer was deleted; it starts again behind the last event that is known to be "
            "settled, and settled events that come again are dropped as duplicates",
            consumer=self.consumer,
            sequence=self._settled + 1,
        )
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": self._settled + 1}

    async def _config_there(self) -> dict[str, Any] | None:
        """The consumer's present configuration, filters sorted; None without a consumer."""
        try:
            config: dict[str, Any] = (
                await self.link.look_up(f"CONSUMER.INFO.{EVENTS}.{self.consumer}")
            )["config"]
        except JetStreamError as error:
            if error.code == NO_CONSUMER:
                return None
            raise
        one = config.get("filter_subject")
        return config | {
            "filter_subjects": sorted(config.get("filter_subjects") or ([one] if one else []))
        }

    def history(self, delivery: NatsDelivery) -> History:
        return History.read(delivery.marks()) if delivery.moved else _UNTRIED

    async def later(self, delivery: NatsDelivery, delay: float, *, counted: bool) -> None:
        target = f"replay.{self.subscription.service}.{delivery.type}"
        try:
            if delay <= 0:
                await self.move(delivery, target, self._passed_on(delivery, counted=counted))
            else:
                at = self.link.server_time() + delay
                waiting = f"delayed.{self.subscription.service}.{delivery.place}"
                extra = schedule(target, at) + self._passed_on(delivery, counted=counted)
                await self.move(delivery, waiting, extra)
        except (BusUnavailable, Unpublishable) as error:
            if counted and isinstance(error, Unpublishable):
                raise
            if delivery.in_hand:
                _log.warning(
                    "an event could not be put off, it is given back; the attempt does not count",
                    error=str(error),
                )
                delivery.refuse(delay)

    def receive(self, delivery: NatsDelivery) -> Awaitable[None]:
        if delivery.times > _SUSPICIOUS:
            return self._set_apart(delivery)
        if not self._told_of_stray:
            self._tell_of_stray(delivery)
        return super().receive(delivery)

    def _tell_of_stray(self, delivery: NatsDelivery) -> None:
        """Warn of a filter by another version. It stays: that version may need it."""
        types = self.subscription.types
        if types is not None and not delivery.moved and delivery.type not in types:
            self._told_of_stray = True
            _log.warning(
                "the consumer filters a type that this version of the service does not handle; "
                "if no version handles it any more, remove the filter",
                consumer=self.consumer,
                stream=EVENTS,
                subject=f"events.{delivery.type}",
            )

    def _apart(self, delivery: NatsDelivery) -> tuple[str, list[bytes]]:
        """The subject of a copy that is set apart, and its header lines."""
        subject = f"alone.{self.subscription.service}.{delivery.type}"
        return subject, self._passed_on(delivery, counted=False)

    async def _set_apart(self, delivery: NatsDelivery) -> None:
        try:
            await self.move(delivery, *self._apart(delivery))
        except Unpublishable:
            await self._condemn(
                delivery,
                "and never settled: it may kill the process, and has no room to be set apart",
            )
        except BusUnavailable as error:
            if delivery.in_hand:
                _log.warning(
                    "a suspicious event could not be set apart; its next delivery tries again",
                    error=str(error),
                )
                delivery.refuse(self._ack_wait)

    async def _condemn(self, delivery: NatsDelivery, why: str) -> None:
        """To the dead letters, as a message that kills the process."""
        now = format_time(datetime.now(UTC))
        history = self.history(delivery)
        failure = Failure(
            reason="crash_loop",
            message=f"delivered {delivery.times} times {why}",
            attempts=history.attempt,
            service=self.subscription.service,
            first_failure=history.first_failure or now,
            last_failure=now,
        )
        try:
            await delivery.dead(failure)
        except BusUnavailable as error:
            if delivery.in_hand:
                _log.warning(
                    "a dead letter could not be stored; its next delivery tries again",
                    error=str(error),
                )
                delivery.refuse(self._ack_wait)

    def _passed_on(self, delivery: NatsDelivery, *, counted: bool) -> list[bytes]:
        """The history's header lines on a copy."""
        history = self.history(delivery)
        if counted:
            history = history.failed(datetime.now(UTC))
        return named(**history.headers())


class AloneLane(SharedLane):
    """A service's suspicious messages, handled one at a time across all replicas.

    When the process dies, only the message in hand gains a delivery. So the message that kills is
    known and goes to the dead letters; its former neighbours are handled. A delivery that the
    process lost with a connection, or refused, has not killed it and does not count. Only this
    process knows that, so after a lost connection it sets the message apart anew: then no replica
    counts that delivery.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outlived: dict[str, int] = {}
        self._survived: set[NatsDelivery] = set()

    def config(self) -> dict[str, Any]:
        filters = [f"alone.{self.subscription.service}.>"]
        return super().config() | {"filter_subjects": filters, "max_ack_pending": 1}

    def lost(self) -> None:
        self._survived |= self._in_hand
        super().lost()

    async def set_up(self) -> None:
        for delivery in list(self._survived):
            await self._begin_anew(delivery)
        await super().set_up()

    async def _begin_anew(self, delivery: NatsDelivery) -> None:
        """Set a message apart whose delivery was lost with a connection."""
        with suppress(BusUnavailable, Unpublishable):  # without a copy it is counted here alone
            await self.copy(delivery, *self._apart(delivery))
            delivery.acknowledge_late()
        self._survived.discard(delivery)

    async def hand_back(self, delivery: NatsDelivery) -> None:
        await self._set_apart(delivery)

    def receive(self, delivery: NatsDelivery) -> Awaitable[None]:
        deaths = delivery.times - self._outlived.get(delivery.place, 0)
        if deaths <= _CONDEMNED:
            return self._on_delivery(delivery)
        why = "on its own and never settled: it seems to kill the process"
        return self._condemn(delivery, why)

    def release(self, delivery: NatsDelivery) -> None:
        self._outlived[delivery.place] = self._outlived.pop(delivery.place, 0) + 1
        if len(self._outlived) > _OUTLIVED_AT_MOST:
            del self._outlived[next(iter(self._outlived))]
        super().release(delivery)

    def acknowledge(self, delivery: NatsDelivery, ack: str) -> None:
        self._outlived.pop(delivery.place, None)
        super().acknowledge(delivery, ack)


class PrivateLane(Lane):
    """A consumer for this process alone. It is gone with the process, so attempts are counted here.

    If nothing pulls for `_FORGOTTEN_AFTER_SECONDS`, longer than most pauses, the server deletes the
    consumer and its pending messages.
    """

    _FORGOTTEN_AFTER_SECONDS = 600

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._failed: dict[str, History] = {}

    def config(self) -> dict[str, Any]:
        return super().config() | {"inactive_threshold": self._FORGOTTEN_AFTER_SECONDS * 10**9}

    def history(self, delivery: NatsDelivery) -> History:
        return self._failed.get(delivery.place, _UNTRIED) if self._failed else _UNTRIED

    async def later(self, delivery: NatsDelivery, delay: float, *, counted: bool) -> None:
        if counted:
            self._failed[delivery.place] = self.history(delivery).failed(datetime.now(UTC))
        delivery.refuse(delay)

    async def bury(self, delivery: NatsDelivery, failure: Failure) -> None:
        """Store nothing: see Delivery.dead."""

    def acknowledge(self, delivery: NatsDelivery, ack: str) -> None:
        self._failed.pop(delivery.place, None)
        super().acknowledge(delivery, ack)

    async def close(self) -> None:
        await super().close()
        # Without an answer, the server deletes the idle consumer by itself.
        with suppress(BusUnavailable, JetStreamError):
            await self.link.api(f"CONSUMER.DELETE.{EVENTS}.{self.consumer}")

"""The three kinds of consumers: a service's own, its suspicious messages, and one for this process alone.

Knows how each counts attempts and gives messages back; knows no handler and no retry policy.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from chassis.bus import BusUnavailable, Failure
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

_SUSPICIOUS = 5  # deliveries without an outcome after which a message may be what kills the process
_CONDEMNED = 3  # deliveries on its own without an outcome after which it is
_OUTLIVED_AT_MOST = 100  # messages of which a process remembers that they did not kill it

_OVERWRITTEN_SECONDS = 0.25
"""Somebody else who read the consumer before we changed it has written it within this time."""

_UNTRIED = History()

_log = structlog.get_logger(__name__)


class SharedLane(Lane):
    """The durable consumer of a service.

    A message that waits for a later attempt is a copy in the server's schedule, not an unsettled delivery: however
    many wait, the others get through, and the attempt in its headers is exact whatever happens to deliveries.
    """

    _told_of_stray = False

    def config(self) -> dict[str, Any]:
        config = super().config()
        replays = f"replay.{self.subscription.service}.>"
        return config | {
            "durable_name": self.consumer,
            "filter_subjects": [*config["filter_subjects"], replays],
        }

    async def create(self) -> None:
        """Filters are only ever added: what is there besides ours may be of another version of the service, which
        would lose the events that come while its filter is not there.

        The server knows no adding, only reading and writing, so whoever has changed a consumer looks at it again.
        """
        changed = False
        while True:
            there = await self._config_there()
            config = self.config()
            if there is not None:
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
                if error.code not in {
                    CONSUMER_EXISTS,
                    NO_CONSUMER_TO_UPDATE,
                }:  # else it came, or went, meanwhile
                    raise
                continue
            changed = True
            if there is not None:
                await asyncio.sleep(_OVERWRITTEN_SECONDS)

    async def _config_there(self) -> dict[str, Any] | None:
        """The consumer as it is, its filters in order; None when it is not there."""
        try:
            config: dict[str, Any] = (
                await self.link.api(f"CONSUMER.INFO.{EVENTS}.{self.consumer}")
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
        return History.read(delivery.marks())

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
        except BusUnavailable as error:
            if delivery.in_hand:
                _log.warning(
                    "an event could not be put off; it is given back and the attempt does not count",
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
        """A filter that this replica did not add. Another version of the service may need it, so it stays."""
        types = self.subscription.types
        if types is not None and not delivery.moved and delivery.type not in types:
            self._told_of_stray = True
            _log.warning(
                "the consumer filters a type that this version of the service does not handle; "
                "if no version does any more, remove the filter",
                consumer=self.consumer,
                stream=EVENTS,
                subject=f"events.{delivery.type}",
            )

    async def _set_apart(self, delivery: NatsDelivery) -> None:
        subject = f"alone.{self.subscription.service}.{delivery.type}"
        try:
            await self.move(delivery, subject, self._passed_on(delivery, counted=False))
        except BusUnavailable as error:
            if delivery.in_hand:
                _log.warning(
                    "a suspicious event could not be set apart; its next delivery tries again",
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
    """Where a service handles suspicious messages one at a time, over all its replicas.

    Only the one message in hand gains a delivery when the process dies, so the one that kills it is known: it goes to
    the dead letters, and those that were merely prefetched beside it are handled. What a process has lost with a
    connection, or refused, has not killed it: such deliveries do not count for as long as it lives.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outlived: dict[str, int] = {}

    def config(self) -> dict[str, Any]:
        filters = [f"alone.{self.subscription.service}.>"]
        return super().config() | {"filter_subjects": filters, "max_ack_pending": 1}

    async def hand_back(self, delivery: NatsDelivery) -> None:
        await self._set_apart(delivery)

    def receive(self, delivery: NatsDelivery) -> Awaitable[None]:
        deaths = delivery.times - self._outlived.get(delivery.place, 0)
        return self._on_delivery(delivery) if deaths <= _CONDEMNED else self._condemn(delivery)

    def release(self, delivery: NatsDelivery) -> None:
        self._outlived[delivery.place] = self._outlived.pop(delivery.place, 0) + 1
        if len(self._outlived) > _OUTLIVED_AT_MOST:
            del self._outlived[next(iter(self._outlived))]
        super().release(delivery)

    def acknowledge(self, delivery: NatsDelivery, ack: str) -> None:
        self._outlived.pop(delivery.place, None)
        super().acknowledge(delivery, ack)

    async def _condemn(self, delivery: NatsDelivery) -> None:
        now = format_time(datetime.now(UTC))
        history = self.history(delivery)
        failure = Failure(
            reason="crash_loop",
            message=f"delivered {delivery.times} times on its own and never settled: it seems to kill the process",
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


class PrivateLane(Lane):
    """A consumer for this process alone. It is gone with the process, so attempts are counted here.

    The server forgets it when nobody has asked for so long, and with it what came meanwhile: longer than most pauses.
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
        """Nowhere: see Delivery.dead."""

    def acknowledge(self, delivery: NatsDelivery, ack: str) -> None:
        self._failed.pop(delivery.place, None)
        super().acknowledge(delivery, ack)

    async def close(self) -> None:
        await super().close()
        with suppress(
            BusUnavailable, JetStreamError
        ):  # not there: the server forgets the consumer by itself
            await self.link.api(f"CONSUMER.DELETE.{EVENTS}.{self.consumer}")

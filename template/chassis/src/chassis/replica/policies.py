"""What holds for each handler: its own policy, and the service's settings for what it leaves out.

Knows no bus and no store; starts nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from chassis.handling.deadlines import Deadlines
from chassis.policy import Batching
from chassis.registration import Registered
from chassis.retry import RetryPolicy
from chassis.service import Service
from chassis.settings import Settings, SettingsError

_LATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Holding:
    """Times are seconds, `rate` events a second; None: no bound. `own` names what the team set."""

    timeout: float
    attempts: int
    backoff: float
    backoff_max: float
    rate: float | None
    concurrency: int | None
    batch: Batching | None
    own: frozenset[str]

    def limits(self) -> dict[str, float]:
        """Each bound by its name, as metrics and `config` show it."""
        bounds = {
            "timeout_seconds": self.timeout,
            "attempts": self.attempts,
            "backoff_seconds": self.backoff,
            "backoff_max_seconds": self.backoff_max,
            "rate_per_second": self.rate,
            "concurrency": self.concurrency,
            "batch_size": None if self.batch is None else self.batch.size,
            "batch_wait_seconds": None if self.batch is None else self.batch.seconds,
        }
        return {name: bound for name, bound in bounds.items() if bound is not None}


@dataclass(frozen=True, slots=True)
class Own:
    """What a route needs of a handler's own policy; None: the service's own."""

    retry: RetryPolicy | None
    deadlines: Deadlines | None


def holding(handler: Registered, settings: Settings) -> Holding:
    """Raises SettingsError if the handler's policy and the service's settings do not fit."""
    policy = handler.policy
    held = Holding(
        _or(policy.timeout, settings.handler_timeout_seconds),
        settings.max_attempts if policy.attempts is None else policy.attempts,
        _or(policy.backoff, settings.backoff_seconds),
        _or(policy.backoff_max, settings.backoff_max_seconds),
        policy.rate,
        handler.options.concurrency,
        handler.options.batch,
        frozenset(
            option
            for option in ("timeout", "attempts", "backoff", "rate")
            if getattr(policy, option) is not None
        ),
    )
    batch = held.batch
    if batch is not None and batch.size > settings.prefetch:
        raise SettingsError(
            f"handler {handler.name}: size={batch.size} must not be above "
            f"CHASSIS_PREFETCH={settings.prefetch}: a batch is made of deliveries in hand"
        )
    if batch is not None and held.timeout + batch.seconds >= settings.lease_seconds:
        raise SettingsError(
            f"handler {handler.name}: timeout={held.timeout:g} s and wait={batch.seconds:g} s must "
            f"together be below CHASSIS_LEASE_SECONDS={settings.lease_seconds:g}: an event is "
            "claimed before it waits for its batch"
        )
    if held.timeout >= settings.lease_seconds:
        raise SettingsError(
            f"handler {handler.name}: timeout={held.timeout:g} s must be below "
            f"CHASSIS_LEASE_SECONDS={settings.lease_seconds:g}: a handler must end while its claim "
            "holds"
        )
    if held.backoff > held.backoff_max:
        raise SettingsError(
            f"handler {handler.name}: backoff={held.backoff:g} s must not be above "
            f"CHASSIS_BACKOFF_MAX_SECONDS={held.backoff_max:g}; give the longest delay too, as "
            f"backoff=({held.backoff:g}, …)"
        )
    oldest = settings.nats_max_age_seconds
    if oldest is not None and oldest <= held.backoff_max:
        raise SettingsError(
            f"handler {handler.name}: the longest backoff of {held.backoff_max:g} s must be below "
            f"CHASSIS_NATS_MAX_AGE_SECONDS={oldest:g}: a later attempt waits in the stream"
        )
    return held


def own_policies(service: Service, settings: Settings) -> Mapping[Registered, Own]:
    """Of the handlers that have any. Handlers with the same time share their deadlines.

    Raises SettingsError.
    """
    deadlines: dict[float, Deadlines] = {}
    found = {}
    for handler in service.registry.handlers:
        held = holding(handler, settings)
        timed, retried = "timeout" in held.own, bool(held.own & {"attempts", "backoff"})
        seconds = held.timeout
        if held.batch is not None:  # its collector keeps the time; this is for a handler that hangs
            timed, seconds = True, held.timeout + held.batch.seconds + _LATE_SECONDS
        if timed:
            deadlines.setdefault(seconds, Deadlines(seconds, named(held)))
        if timed or retried:
            retry = RetryPolicy(
                held.attempts, held.backoff, held.backoff_max, settings.max_age_seconds
            )
            found[handler] = Own(retry if retried else None, deadlines[seconds] if timed else None)
    return found


def named(held: Holding) -> str:
    """What sets the handler's time."""
    return "timeout= of the handler" if "timeout" in held.own else "CHASSIS_HANDLER_TIMEOUT_SECONDS"


def _or(wanted: float | None, setting: float) -> float:
    return setting if wanted is None else wanted

"""Every setting of the chassis with its meaning and default, from `CHASSIS_*` variables.

A wrong value or an unknown name stops the start with one line that names the variable.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from chassis import urls
from chassis.settings.kinds import Kind, flag, number, one_of, url, whole

PREFIX = "CHASSIS_"
BUS_SCHEMES = ("amqp", "amqps", "nats", "tls", "memory")
REDIS_SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
INBOX_SCHEMES = ("nats", "tls", *REDIS_SCHEMES, "postgresql", "memory")

_MIB = 1024 * 1024

Value = TypeVar("Value")


class SettingsError(Exception):
    """A setting is missing, unknown or wrong.

    The message names the variable and the allowed values.
    """


def _setting(default: Value, kind: Kind[Value], meaning: str) -> Value:
    made: Value = field(
        default=default, repr=not kind.secret, metadata={"kind": kind, "meaning": meaning}
    )
    return made


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of this replica, made by `load`.

    Times are seconds, sizes bytes.
    """

    bus_url: str | None = _setting(
        None,
        url(*BUS_SCHEMES),
        "The broker: amqp://, amqps://, nats://, tls:// (NATS), memory://. `run` needs it.",
    )
    inbox_url: str | None = _setting(
        None,
        url(*INBOX_SCHEMES),
        "The inbox store: nats://, tls:// (NATS), redis://, rediss://, redis+sentinel://, "
        "rediss+sentinel://, postgresql://, memory://. On a NATS or memory bus "
        "it may be left out: the bus keeps the inbox too.",
    )
    database_connections: int = _setting(
        16,
        whole(4, 1000),
        "PostgreSQL: most connections of a replica; a quarter claims and completes, the others are "
        "for handlers' transactions.",
    )
    migrate: bool = _setting(
        True,
        flag(),
        "PostgreSQL: `run` and `relay` create and change the chassis' tables by themselves. "
        "false: they wait until the command `migrate` has.",
    )
    outbox_relay: bool = _setting(
        True,
        flag(),
        "PostgreSQL: `run` publishes the outbox. false: leave that to the command `relay`.",
    )
    nats_replicas: int = _setting(
        1,
        whole(1, 5),
        "NATS: least copies of the streams, the dead letters and the inbox bucket. Raise it at any "
        "time; what has more copies keeps them. Set 3 in a cluster of three nodes or more.",
    )
    nats_max_age_seconds: float | None = _setting(
        None,
        number(least=3600),
        "NATS: how long the stream keeps events, handled or not. Unset: 604800 for a new stream.",
    )
    nats_max_bytes: int | None = _setting(
        None,
        whole(_MIB),
        "NATS: most bytes of events in the stream; above them the oldest go, handled or not. "
        "Unset: no bound for a new stream.",
    )
    nats_dead_letters: int | None = _setting(
        None,
        whole(1),
        "NATS: most dead letters; a full stream takes no further one, and the event stays. "
        "Unset: 100000 for a new stream.",
    )
    nats_dead_letter_bytes: int | None = _setting(
        None,
        whole(_MIB),
        "NATS: most bytes of dead letters. Unset: 268435456 for a new stream.",
    )
    http_host: str = _setting("0.0.0.0", Kind(str), "Address of the HTTP port.")  # noqa: S104 - probes come from outside the pod
    http_port: int = _setting(
        8080,
        whole(0, 65535),
        "Port of /livez, /readyz, /metrics and /version; 0 takes a free one.",
    )
    api_port: int = _setting(
        8000,
        whole(0, 65535),
        "Port of the app that `service.mount` was given, at CHASSIS_HTTP_HOST; 0 takes a free one.",
    )
    prefetch: int = _setting(
        100, whole(1, 10_000), "Deliveries a replica holds at a time, and so handlers at a time."
    )
    max_attempts: int = _setting(
        5, whole(1, 100), "Failures after which an event goes to the dead letters."
    )
    backoff_seconds: float = _setting(
        1.0,
        number(least=0),
        "Delay before the second attempt; doubled for each further one, with full jitter.",
    )
    backoff_max_seconds: float = _setting(
        300.0, number(above=0), "Longest delay between two attempts."
    )
    max_age_seconds: float = _setting(
        86_400.0,
        number(above=0),
        "Time since its first failure after which an event goes to the dead letters.",
    )
    pause_failure_ratio: float = _setting(
        0.8,
        number(least=0, most=1),
        "Share of the last events that has to fail for the consumer to pause and probe; 0: never.",
    )
    handler_timeout_seconds: float = _setting(
        30.0,
        number(above=0),
        "Time a handler may take; then it is cancelled and the attempt has failed.",
    )
    lease_seconds: float = _setting(
        60.0,
        number(least=1),
        "How long a claim holds without a sign of life. After a crash an event waits about this "
        "long.",
    )
    retention_seconds: float = _setting(
        604_800.0,
        number(least=60),
        "How long a handled event is remembered; later replays are handled again.",
    )
    max_body_bytes: int = _setting(
        524_288,
        whole(1),
        "Largest body; larger ones are refused at publish, dead letters at receipt.",
    )
    drain_seconds: float = _setting(
        25.0,
        number(above=0),
        "Time for events in flight after SIGTERM; below the pod's grace period.",
    )
    log_format: Literal["auto", "json", "console"] = _setting(
        "auto",
        one_of("auto", "json", "console"),
        "auto: console when the output is a terminal, else json.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", one_of("debug", "info", "warning", "error"), "Least level shown."
    )
    otlp_endpoint: str | None = _setting(
        None,
        url("http", "https"),
        "OTLP/HTTP endpoint for traces, such as http://collector:4318. Unset: no traces.",
    )
    trace_ratio: float = _setting(
        0.1, number(least=0, most=1), "Share of new traces that are sampled."
    )

    def __post_init__(self) -> None:
        if self.handler_timeout_seconds >= self.lease_seconds:
            raise SettingsError(
                f"{PREFIX}HANDLER_TIMEOUT_SECONDS={self.handler_timeout_seconds:g} must be below "
                f"{PREFIX}LEASE_SECONDS={self.lease_seconds:g}: "
                "a handler must end while its claim holds"
            )
        if self.backoff_seconds > self.backoff_max_seconds:
            raise SettingsError(
                f"{PREFIX}BACKOFF_SECONDS={self.backoff_seconds:g} must not be above "
                f"{PREFIX}BACKOFF_MAX_SECONDS={self.backoff_max_seconds:g}"
            )

        oldest = self.nats_max_age_seconds
        if oldest is not None and oldest <= self.backoff_max_seconds:
            raise SettingsError(
                f"{PREFIX}NATS_MAX_AGE_SECONDS={oldest:g} must be above "
                f"{PREFIX}BACKOFF_MAX_SECONDS={self.backoff_max_seconds:g}: "
                "a later attempt waits in the stream"
            )

    @property
    def inbox(self) -> str:
        """The URL of the inbox store. Raises SettingsError when neither variable gives one."""
        if self.inbox_url is not None:
            return self.inbox_url
        if self.bus_url is not None and not self.bus_url.startswith("amqp"):
            return self.bus_url
        raise SettingsError(
            f"{PREFIX}INBOX_URL is not set: say where handled events are kept, "
            "e.g. nats://nats:4222"
        )

    @property
    def bus(self) -> str:
        """The URL of the broker. Raises SettingsError when it is not set."""
        if self.bus_url is None:
            raise SettingsError(
                f"{PREFIX}BUS_URL is not set: say where the broker is, "
                "e.g. amqp://rabbitmq:5672 or nats://nats:4222"
            )
        return self.bus_url


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting as the environment has it, `name` included."""

    name: str
    default: object
    kind: Kind[object]
    meaning: str


VARIABLES: Mapping[str, Variable] = {
    each.name: Variable(
        PREFIX + each.name.upper(), each.default, each.metadata["kind"], each.metadata["meaning"]
    )
    for each in fields(Settings)
}
"""By the name of the setting."""


def load(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Settings from the environment; `overrides` win. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    known = {variable.name: name for name, variable in VARIABLES.items()}
    given = {name: text for name, text in environ.items() if name.upper().startswith(PREFIX)}
    given |= {
        PREFIX + name.upper(): str(value) for name, value in overrides.items() if value is not None
    }
    values: dict[str, Any] = {}
    mistakes = []
    for variable, text in given.items():
        if variable not in known:
            close = get_close_matches(variable, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise SettingsError(f"{variable} is not a setting: {hint}")
        kind = VARIABLES[known[variable]].kind
        try:
            if text != "":
                values[known[variable]] = kind.read(text)
        except ValueError as mistake:
            shown = variable if kind.secret else f"{variable}={urls.masked(text)!r}"
            mistakes.append(f"{shown}: {mistake}")
    if mistakes:
        raise SettingsError("; ".join(mistakes))
    return Settings(**values)


def effective(settings: Settings) -> list[tuple[str, str, bool, str]]:
    """For each setting: variable, value with secrets masked, whether it is the default, meaning."""
    rows = []
    for name, variable in VARIABLES.items():
        value = getattr(settings, name)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        shown = "" if value is None else urls.masked(text)
        rows.append((variable.name, shown, value == variable.default, variable.meaning))
    return rows

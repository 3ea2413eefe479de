"""Every setting of the chassis with its meaning and default, from `CHASSIS_*` environment variables.

A wrong value or an unknown name stops the start with one line that names the variable.
"""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

PREFIX = "CHASSIS_"
BUS_SCHEMES = ("amqp", "amqps", "nats", "tls", "memory")
INBOX_SCHEMES = ("nats", "tls", "redis", "rediss", "postgresql", "memory")


class SettingsError(Exception):
    """A setting is missing, unknown or wrong; the message names the variable and what is allowed."""


def _url_of(*schemes: str) -> AfterValidator:
    allowed = ", ".join(f"{scheme}://" for scheme in schemes)

    def check(url: str) -> str:
        for one in url.split(","):
            try:
                parts = urlsplit(one)
                _ = parts.port
            except ValueError:  # its text may hold a part of the password
                raise ValueError(
                    "not a URL; are special characters of the password percent-encoded?"
                ) from None
            if parts.scheme not in schemes:
                raise ValueError(f"the scheme must be one of {allowed}")
            if parts.scheme != "memory" and not parts.hostname:
                raise ValueError(f"no host in it, expected something like {parts.scheme}://host")
        return url

    return AfterValidator(check)


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """What the environment says about this replica; made by `load`. Times are seconds, sizes bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bus_url: Annotated[str, _url_of(*BUS_SCHEMES)] | None = Field(
        default=None,
        repr=False,
        description="The broker: amqp://, amqps://, nats://, tls:// (NATS), memory://. `run` needs it.",
    )
    inbox_url: Annotated[str, _url_of(*INBOX_SCHEMES)] | None = Field(
        default=None,
        repr=False,
        description="The inbox store: nats://, tls:// (NATS), redis://, rediss://, postgresql://, memory://. "
        "On a NATS or memory bus it may be left out: the bus keeps the inbox too.",
    )
    database_connections: int = Field(
        default=16,
        ge=4,
        le=1000,
        description="PostgreSQL: most connections of a replica; a quarter claims and completes, the others are for "
        "handlers' transactions.",
    )
    migrate: bool = Field(
        default=True,
        description="PostgreSQL: `run` and `relay` create and change the chassis' tables by themselves. "
        "false: they wait until the command `migrate` has.",
    )
    outbox_relay: bool = Field(
        default=True,
        description="PostgreSQL: `run` publishes the outbox. false: leave that to the command `relay`.",
    )
    http_host: str = Field(default="0.0.0.0", description="Address of the HTTP port.")  # noqa: S104 - probes come from outside the pod
    http_port: Port = Field(
        default=8080,
        description="Port of /livez, /readyz, /metrics and /version; 0 takes a free one.",
    )
    prefetch: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Deliveries a replica holds at a time, and so handlers at a time.",
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Failures after which an event goes to the dead letters.",
    )
    backoff_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0,
        description="Delay before the second attempt; doubled for each further one, with full jitter.",
    )
    backoff_max_seconds: Seconds = Field(
        default=300.0, description="Longest delay between two attempts."
    )
    max_age_seconds: Seconds = Field(
        default=86_400.0,
        description="Time since its first failure after which an event goes to the dead letters.",
    )
    pause_failure_ratio: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Share of the last events that has to fail for the consumer to pause and probe; 0: never.",
    )
    handler_timeout_seconds: Seconds = Field(
        default=30.0,
        description="Time a handler may take; then it is cancelled and the attempt has failed.",
    )
    lease_seconds: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        default=60.0,
        description="How long a claim holds without a sign of life. After a crash an event waits about this long.",
    )
    retention_seconds: Annotated[float, Field(ge=60, allow_inf_nan=False)] = Field(
        default=604_800.0,
        description="How long a handled event is remembered; later replays are handled again.",
    )
    max_body_bytes: int = Field(
        default=524_288,
        ge=1,
        description="Largest body; larger ones are refused at publish, dead letters at receipt.",
    )
    drain_seconds: Seconds = Field(
        default=25.0,
        description="Time for events in flight after SIGTERM; below the pod's grace period.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console when the output is a terminal, else json."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level shown."
    )
    otlp_endpoint: Annotated[str, _url_of("http", "https")] | None = Field(
        default=None,
        repr=False,
        description="OTLP/HTTP endpoint for traces, such as http://collector:4318. Unset: no traces.",
    )
    trace_ratio: float = Field(
        default=0.1, ge=0, le=1, description="Share of new traces that are sampled."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.handler_timeout_seconds >= self.lease_seconds:
            raise ValueError(
                f"{PREFIX}HANDLER_TIMEOUT_SECONDS={self.handler_timeout_seconds:g} must be below "
                f"{PREFIX}LEASE_SECONDS={self.lease_seconds:g}: a handler must end while its claim holds"
            )
        if self.backoff_seconds > self.backoff_max_seconds:
            raise ValueError(
                f"{PREFIX}BACKOFF_SECONDS={self.backoff_seconds:g} must not be above "
                f"{PREFIX}BACKOFF_MAX_SECONDS={self.backoff_max_seconds:g}"
            )
        return self

    @property
    def inbox(self) -> str:
        """The URL of the inbox store. Raises SettingsError when neither variable gives one."""
        if self.inbox_url is not None:
            return self.inbox_url
        if self.bus_url is not None and not self.bus_url.startswith("amqp"):
            return self.bus_url
        raise SettingsError(
            f"{PREFIX}INBOX_URL is not set: say where handled events are kept, e.g. nats://nats:4222"
        )

    @property
    def bus(self) -> str:
        """The URL of the broker. Raises SettingsError when it is not set."""
        if self.bus_url is None:
            raise SettingsError(
                f"{PREFIX}BUS_URL is not set: say where the broker is, e.g. amqp://rabbitmq:5672 or nats://nats:4222"
            )
        return self.bus_url


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment; `overrides` win. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    given = {name: value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    for variable in given:
        if variable not in known:
            close = get_close_matches(variable, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise SettingsError(f"{variable} is not a setting: {hint}")
    values: dict[str, Any] = {
        known[variable]: value for variable, value in given.items() if value != ""
    }
    try:
        return Settings(**(values | overrides))
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_sentence(dict(problem)) for problem in error.errors())
        ) from None


_LOGIN = re.compile(r"(?<=://)(?P<user>[^:@]*)(?P<password>:.*)?@", re.DOTALL)
_SECRET_PARAMETER = re.compile(
    r"(?<=[?&])([^=&]*(?:password|secret|token)[^=&]*=)[^&]*", re.IGNORECASE
)
_NEXT_URL = re.compile(r",(?=[a-z+]+://)")


def masked(url: str) -> str:
    """`url` with every password, and a token in its place, hidden; rather too much than too little."""
    return ",".join(_masked_one(one) for one in _NEXT_URL.split(url))


def _masked_one(url: str) -> str:
    without_login = _LOGIN.sub(
        lambda login: f"{login['user']}:***@" if login["password"] else "***@", url
    )
    return _SECRET_PARAMETER.sub(r"\1***", without_login)


def effective(settings: Settings) -> list[tuple[str, str, bool, str]]:
    """For each setting: variable, value with secrets masked, whether it is the default, meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = (
            ""
            if value is None
            else str(value).lower()
            if isinstance(value, bool)
            else masked(str(value))
        )
        rows.append((PREFIX + name.upper(), shown, value == field.default, field.description or ""))
    return rows


def _sentence(problem: Mapping[str, Any]) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    variable = PREFIX + str(problem["loc"][0]).upper()
    given = problem["input"]
    shown = repr(masked(given) if isinstance(given, str) else given)
    return f"{variable}={shown}: {message[0].lower()}{message[1:]}"

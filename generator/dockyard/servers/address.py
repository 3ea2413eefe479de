"""The URL of a component: which one it is, and how it is shown without its password."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from dockyard.errors import DockyardError

Component = Literal["rabbitmq", "nats", "redis", "postgresql"]

SCHEMES: dict[str, Component] = {
    "http": "rabbitmq",
    "https": "rabbitmq",
    "nats": "nats",
    "tls": "nats",
    "redis": "redis",
    "rediss": "redis",
    "postgresql": "postgresql",
    "postgres": "postgresql",
}


class BadAddress(DockyardError):
    """The URL names no component. Its text is not repeated: it may hold a password."""


class Unreachable(DockyardError):
    """A component gives no answer, or refuses the login."""

    def __init__(self, address: "Address", why: str) -> None:
        self.why = f"it cannot be used: {address.masked(why)}"
        super().__init__(
            f"{address.component} at {address.shown} cannot be used: {address.masked(why)}. "
            "Mend the URL, its login or the network, and run this again."
        )


@dataclass(frozen=True, slots=True)
class Address:
    """`url` may hold a password and is never printed; `shown` never holds one."""

    component: Component
    url: str
    shown: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    def masked(self, text: str) -> str:
        """Another program's text in one line, without this address's password."""
        line = " ".join(text.split())
        for secret in {self.password, urlsplit(self.url.split(",")[0]).password or ""} - {""}:
            line = line.replace(secret, "***")
        return line.rstrip(".")


def read(url: str) -> Address:
    """Raises BadAddress."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        hint = (
            "an amqp:// URL cannot show users and policies: give the management API, such as "
            "http://admin:password@rabbitmq:15672/vhost"
            if scheme in {"amqp", "amqps"}
            else "known are http(s):// for RabbitMQ's management API, nats://, tls://, redis://, "
            "rediss:// and postgresql://"
        )
        raise BadAddress(f"a URL begins with none of the known schemes: {hint}.")
    first = urlsplit(url.split(",", maxsplit=1)[0])
    shown = f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
    return Address(
        SCHEMES[scheme],
        url,
        shown,
        unquote(first.username or ""),
        unquote(first.password or ""),
    )

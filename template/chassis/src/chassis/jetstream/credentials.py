"""What a URL says of servers, login and TLS. Knows no connection."""

import ssl
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from chassis.urls import each


class Login(NamedTuple):
    """What the server asks for: user and password, or a token."""

    user: str | None = None
    password: str | None = None
    token: str | None = None

    @classmethod
    def of(cls, urls: list[str]) -> "Login":
        """The login of the first URL that has one. Percent-decoded: nats-py does not decode."""
        for url in urls:
            parts = urlsplit(url)
            if parts.username and parts.password is not None:
                return cls(user=unquote(parts.username), password=unquote(parts.password))
            if parts.username:
                return cls(token=unquote(parts.username))
        return cls()


def servers_in(url: str) -> list[str]:
    """A URL for each host of `url`, without parameters, which nats-py does not know."""
    return [urlunsplit(urlsplit(one)._replace(query="")) for one in each(url)]


def tls_context(url: str) -> ssl.SSLContext | None:
    """From `?cafile=…&certfile=…&keyfile=…` of the first URL. Raises OSError: a file is wrong."""
    files = parse_qs(urlsplit(each(url)[0]).query)
    if not files:
        return None
    try:
        context = ssl.create_default_context(cafile=files.get("cafile", [None])[0])
        if "certfile" in files:
            context.load_cert_chain(files["certfile"][0], files.get("keyfile", [None])[0])
    except OSError as error:
        raise OSError(f"the URL's {', '.join(files)} cannot be loaded: {error}") from error
    return context


def shown(urls: list[str]) -> str:
    """Hosts and ports alone, for logs and errors."""
    return ",".join(urlsplit(url).netloc.rpartition("@")[2] for url in urls)

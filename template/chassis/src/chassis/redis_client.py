"""From a URL to a client of Redis, for the inbox and for processes: one server, or sentinels.

Knows no key and no script.
"""

from typing import Any, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from chassis.urls import each

_SENTINEL_PORT = 26379


def connect(url: str, timeout: float) -> Redis:
    """A client that connects at its first command; each answer takes `timeout` seconds at most.

    Raises ValueError, without a part of it, for a URL of another form.

    Never repeats a command: a claim whose answer is lost would then be refused as busy.
    """
    bounds: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    if urlsplit(url).scheme.endswith("+sentinel"):
        return _by_sentinels(url, bounds)
    try:
        return Redis.from_url(url, **bounds)
    except ValueError:
        raise ValueError(
            "the inbox URL is not of the form redis://[user:password@]host:port/database"
        ) from None


def _by_sentinels(url: str, bounds: dict[str, Any]) -> Redis:
    """The primary that the sentinels name, also after a failover."""
    sentinels = [urlsplit(one) for one in each(url)]
    first = sentinels[0]
    name, _, database = first.path.removeprefix("/").partition("/")
    login = first.netloc.rpartition("@")[0]
    plain = f"redis://{login}{'@' if login else ''}host/{database}?{first.query}"
    options = {**parse_url(plain), **bounds}
    del options["host"]
    if first.scheme.startswith("rediss"):
        options["ssl"] = True
    own = {
        parameter.removeprefix("sentinel_"): options.pop(parameter)
        for parameter in ("sentinel_username", "sentinel_password")
        if parameter in options
    }
    tls = {key: value for key, value in options.items() if key.startswith("ssl")}
    hosts = [(sentinel.hostname, sentinel.port or _SENTINEL_PORT) for sentinel in sentinels]
    manager = Sentinel(hosts, sentinel_kwargs={**tls, **bounds, **own}, **options)  # type: ignore[no-untyped-call] # redis-py says nothing
    return cast("Redis", manager.master_for(unquote(name)))


def where(url: str) -> str:
    """The server without login and parameters, for errors."""
    parts = urlsplit(url)
    if parts.scheme.endswith("+sentinel"):
        return f"{parts.path.split('/')[1]} of {parts.netloc.rpartition('@')[2]}"
    return parts.netloc.rpartition("@")[2] or parts.path

"""URLs of brokers, stores and collectors: what is refused, and what may be shown of them.

Knows URLs; knows no setting and no client. An error never holds a part of the URL: a character that
is not encoded makes a piece of the password look like a host, a path or a parameter.
"""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

_AMQP = "auth cadata cafile capath certfile heartbeat keyfile no_verify_ssl timeout"
_NATS = "cafile certfile credsfile keyfile nkeyfile"
_REDIS = (
    "client_name db health_check_interval protocol socket_keepalive ssl_ca_certs ssl_ca_path "
    "ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_keyfile ssl_min_version ssl_password"
)
_SENTINEL = f"{_REDIS} sentinel_password sentinel_username"
_POSTGRESQL = (
    "application_name channel_binding connect_timeout dbname fallback_application_name "
    "gssdelegation gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle "
    "keepalives_interval krbsrvname load_balance_hosts max_protocol_version min_protocol_version "
    "options passfile password port require_auth requirepeer ssl_max_protocol_version "
    "ssl_min_protocol_version sslcert sslcertmode sslcrl sslcrldir sslkey sslmode sslnegotiation "
    "sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout user"
)
_PARAMETERS = {
    "amqp": _AMQP,
    "amqps": _AMQP,
    "redis": _REDIS,
    "rediss": _REDIS,
    "redis+sentinel": _SENTINEL,
    "rediss+sentinel": _SENTINEL,
    "postgresql": _POSTGRESQL,
    "nats": _NATS,
    "tls": _NATS,
}
"""By scheme: aiormq's and redis-py's that the chassis does not set itself, libpq's, and those that
chassis.jetstream reads."""
_SEVERAL = ("amqp", "amqps", "nats", "tls", "redis+sentinel", "rediss+sentinel", "postgresql")
"""Schemes whose clients take several servers."""
_WHOLE_NUMBERS = (
    "connect_timeout db health_check_interval heartbeat keepalives keepalives_count "
    "keepalives_idle keepalives_interval port protocol tcp_user_timeout timeout"
)

_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f#]|%(?![0-9A-Fa-f]{2})")
_ENCODE = "percent-encode the special characters of user and password, @ as %40 and # as %23"

_LOGIN = re.compile(r"(?<=://)(?P<user>[^:@]*)(?P<password>:.*)?@", re.DOTALL)
_SECRET_PARAMETER = re.compile(
    r"(?<=[?&])([^=&]*(?:password|secret|token)[^=&]*=)[^&]*", re.IGNORECASE
)
_NEXT_URL = re.compile(r",(?=[a-z+]+://)")


def checked(urls: str, schemes: tuple[str, ...]) -> str:
    """`urls`, one or several with commas between them. Raises ValueError, without a part of it."""
    for url in each(urls):
        _check(url, schemes)
    if len(each(urls)) > 1 and urlsplit(urls).scheme not in _SEVERAL:
        raise ValueError("it names several servers, and this scheme takes one")
    return urls


def each(urls: str) -> list[str]:
    """A URL for each server of `urls`, in their order.

    URLs are separated by commas, and so are the hosts within one: `amqp://svc:pw@a,b:5673/vhost`.
    """
    found = []
    for url in _NEXT_URL.split(urls):
        head, slashes, rest = url.partition("://")
        netloc, end = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr] # matches all
        login, at, hosts = netloc.rpartition("@")
        found += [f"{head}{slashes}{login}{at}{host}{end}" for host in hosts.split(",")]
    return found


def masked(urls: str) -> str:
    """`urls` with every password and every token in its place hidden; rather too much."""
    return ",".join(_masked_one(url) for url in _NEXT_URL.split(urls))


def _check(url: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may hold a part of the password
        raise ValueError(f"it is not a URL; {_ENCODE}") from None
    if parts.scheme not in schemes:
        allowed = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"the scheme must be one of {allowed}")
    if _NOT_IN_A_URL.search(url) or url.count("@") > 1 or url.count("@") > parts.netloc.count("@"):
        raise ValueError(f"it has a character in the wrong place; {_ENCODE}")
    if parts.scheme == "memory":
        return
    if not parts.hostname:
        raise ValueError(f"it names no host, expected something like {parts.scheme}://host")
    if parts.scheme.endswith("+sentinel"):
        if not re.fullmatch(r"/[^/]+(/\d*)?", parts.path):
            raise ValueError(
                f"its path must name the primary, as in {parts.scheme}://sentinel-1,sentinel-2/name/0"
            )
    elif parts.scheme.startswith("redis") and not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError(f"its path must be a database's number, as in {parts.scheme}://host/0")
    _check_parameters(parts)


def _check_parameters(parts: SplitResult) -> None:
    known = _PARAMETERS.get(parts.scheme, "").split()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            raise ValueError(
                f"it has an unknown parameter after the ?; known are {', '.join(known)}"
                if known
                else f"{parts.scheme}:// takes no parameters, and it has some after a ?"
            )
        if name in _WHOLE_NUMBERS.split() and not re.fullmatch(r"\d{1,9}", value):
            raise ValueError(f"its parameter {name} must be a whole number")


def _masked_one(url: str) -> str:
    without_login = _LOGIN.sub(
        lambda login: f"{login['user']}:***@" if login["password"] else "***@", url
    )
    return _SECRET_PARAMETER.sub(r"\1***", without_login)

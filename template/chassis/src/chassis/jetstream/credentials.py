"""What a URL says of servers, login, keys and TLS. Knows no connection."""

import re
import ssl
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from nats.aio.client import RawCredentials

from chassis.urls import each

_TLS_FILES = ("cafile", "certfile", "keyfile")
_CREDENTIALS = re.compile(
    r"-BEGIN NATS USER JWT-+\s+(?P<jwt>\S+)\s+-+END.*"
    r"-BEGIN USER NKEY SEED-+\s+(?P<seed>\S+)\s+-+END",
    re.DOTALL,
)
_PLAIN = "-----BEGIN NATS USER JWT-----\n{jwt}\n-----BEGIN USER NKEY SEED-----\n{seed}\n"
"""What nats-py reads of it. It would read a file without these lines for ever."""


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


def sign_in(url: str) -> dict[str, Any]:
    """Options of nats-py: the servers of `url`, and what they ask for.

    Files are read at each connection, so a renewed one is taken. Raises OSError for a file that
    cannot be used, without a part of it.
    """
    servers = servers_in(url)
    login = Login.of(servers)._asdict()
    return {"servers": servers, **login, "tls": tls_context(url), **_keys(url)}


def _keys(url: str) -> dict[str, Any]:
    """The key in the file of `?credsfile=…` or `?nkeyfile=…`. Raises OSError: it holds none."""
    files = parse_qs(urlsplit(each(url)[0]).query)
    if "credsfile" in files:
        found = _CREDENTIALS.search(_read(files, "credsfile"))
        if found is None or not _is_seed(found["seed"]):
            raise OSError(
                "the URL's credsfile is no credentials file: it must hold a NATS USER JWT and a "
                "USER NKEY SEED, as `nsc generate creds` writes them"
            )
        return {"user_credentials": RawCredentials(_PLAIN.format_map(found.groupdict()))}
    if "nkeyfile" in files:
        seed = _read(files, "nkeyfile").strip()
        if not _is_seed(seed):
            raise OSError("the URL's nkeyfile must hold the seed of a user, one line SU…")
        return {"nkeys_seed_str": seed}
    return {}


def tls_context(url: str) -> ssl.SSLContext | None:
    """From `?cafile=…&certfile=…&keyfile=…` of the first URL. Raises OSError: a file is wrong."""
    given = parse_qs(urlsplit(each(url)[0]).query)
    files = {name: given[name] for name in _TLS_FILES if name in given}
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


def _read(files: dict[str, list[str]], name: str) -> str:
    try:
        return Path(files[name][0]).read_text("ascii", errors="replace")
    except OSError as error:
        raise OSError(f"the URL's {name} cannot be read: {error}") from error


def _is_seed(text: str) -> bool:
    import nkeys  # type: ignore[import-untyped] # noqa: PLC0415 - an extra of its own, untyped

    try:
        nkeys.from_seed(bytearray(text.encode())).wipe()
    except (nkeys.NkeysError, ValueError):  # ValueError: it is not base32
        return False
    return text.startswith("SU")

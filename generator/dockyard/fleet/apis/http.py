"""JSON over HTTP, with a token that goes to no other server.

Knows HTTP; knows nothing of forges.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from dockyard.errors import one_line
from dockyard.programs import network

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_MOST = 16_000_000
"""Bytes of an answer."""
_LONGEST_REASON = 300


class RefusedError(Exception):
    """The forge does not do what it was asked; says why."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(one_line(reason))
        self.status = status


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the token to another server."""

    def redirect_request(  # noqa: PLR0917 - as urllib calls it
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Server:
    """An API: where it is, and who asks."""

    base: str
    """Its address, without a slash at the end."""
    headers: Mapping[str, str] = field(repr=False)
    """With the token."""

    def get(self, path: str, **query: str) -> Any:
        """The answer to a GET."""
        return self.ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def ask(self, method: str, path: str, body: object = None, *, base: str | None = None) -> Any:
        """The answer to a request, None if it is empty. Raises RefusedError and BadTimeout."""
        address = f"{base or self.base}{path}"
        where = urlsplit(address)
        if where.scheme != "https" and where.hostname not in _LOOPBACK:
            raise RefusedError(
                f"{where.scheme}://{where.netloc} is not https, so no token goes there"
            )
        said = {"Accept": "application/json", "User-Agent": "dockyard", **self.headers}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            said["Content-Type"] = "application/json"
        request = Request(address, data, said, method=method)  # noqa: S310 - https, or this machine
        try:
            with build_opener(_NoRedirects).open(request, timeout=network.patience()) as answer:
                text = answer.read(_MOST)
        except HTTPError as error:
            with error:
                raise RefusedError(_reason(error), error.code) from None
        except (URLError, HTTPException, OSError) as error:
            raise RefusedError(f"{where.netloc} does not answer: {error}") from None
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            raise RefusedError(f"{where.netloc} does not answer with JSON") from None


def _reason(error: HTTPError) -> str:
    said = error.read(_MOST).decode("utf-8", "replace")
    try:
        content = json.loads(said)
        told = content.get("message") or content.get("error") or said
    except (ValueError, AttributeError):
        told = error.reason
    return f"{error.code} {str(told)[:_LONGEST_REASON]}"

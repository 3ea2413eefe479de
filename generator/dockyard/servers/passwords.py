"""The passwords of services: read from a file, made when missing, and the hashes of servers.

A password is printed nowhere. Manifests hold hashes only.
"""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from dockyard.errors import DockyardError

_ROUNDS = 4096


class BadPasswords(DockyardError):
    """The file of passwords has a line that is not `name=password`."""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(f"{path}:{line} is not of the form billing-svc=password: mend that line.")


def provide(path: Path, names: Iterable[str]) -> Mapping[str, str]:
    """The password of each name. Missing ones are made and added to the file, readable by you."""
    known: dict[str, str] = {}
    if path.exists():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            name, separator, password = line.partition("=")
            if not separator or not password.strip():
                raise BadPasswords(path, number)
            known[name.strip()] = password.strip()
    missing = {name: f"p{secrets.token_hex(24)}" for name in names if name not in known}
    if missing:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.writelines(f"{name}={password}\n" for name, password in missing.items())
    return known | missing


def of_rabbitmq(password: str) -> str:
    """RabbitMQ's `rabbit_password_hashing_sha256`: a salt of four bytes, and the digest."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def of_redis(password: str) -> str:
    """A rule of an ACL: the digest of a password."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()


def of_postgresql(password: str) -> str:
    """PostgreSQL's SCRAM-SHA-256 verifier (RFC 5803)."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    shown = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ROUNDS}:{shown[0]}${shown[1]}:{shown[2]}"

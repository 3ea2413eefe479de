"""Signing in to NATS with keys: an nkey, and a credentials file for a server with accounts."""

import asyncio
import base64
import json
import os
from pathlib import Path

import nkeys
import pytest

from chassis.bus.nats import NatsBus
from chassis.jetstream.credentials import sign_in
from tests.brokers.nats import nats
from tests.chassis.bus.test_bus_conformance import event
from tests.waiting import PATIENCE


def key_pair(kind: bytes) -> tuple[str, str]:
    """The public key and the seed of an operator (`O`), an account (`A`) or a user (`U`)."""
    prefix = {b"O": nkeys.PREFIX_BYTE_OPERATOR, b"A": nkeys.PREFIX_BYTE_ACCOUNT}
    seed = nkeys.encode_seed(os.urandom(32), prefix.get(kind, nkeys.PREFIX_BYTE_USER))
    return nkeys.from_seed(bytearray(seed)).public_key.decode(), seed.decode()


def signed_claims(issuer: tuple[str, str], subject: str, **nats: object) -> str:
    """A JWT of NATS about the key `subject`."""
    claims: dict[str, object] = {"iss": issuer[0], "sub": subject, "name": "test", "iat": 1}
    claims |= {"jti": "test", "nats": {"version": 2, **nats}}
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    text = b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    signature = nkeys.from_seed(bytearray(issuer[1].encode())).sign(text)
    return (text + b"." + _base64url(signature)).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


async def can_publish(url: str) -> None:
    bus = NatsBus(url, name="billing-svc", ack_wait=2.0)
    await bus.start()
    try:
        await asyncio.wait_for(bus.wait_ready(), PATIENCE)
        await bus.publish(event())
    finally:
        await bus.close()


async def test_an_nkey_in_a_file_signs_in(tmp_path: Path) -> None:
    public, seed = key_pair(b"U")
    settings, key = tmp_path / "nats.conf", tmp_path / "svc.nk"
    settings.write_text(f'authorization {{ users = [{{ nkey: "{public}" }}] }}')
    key.write_text(f"{seed}\n")
    with nats(tmp_path, "--config", str(settings)) as broker:
        await can_publish(f"{broker.url}?nkeyfile={key}")


async def test_a_credentials_file_signs_in_to_a_server_with_accounts(tmp_path: Path) -> None:
    operator, user = key_pair(b"O"), key_pair(b"U")
    account, system = key_pair(b"A"), key_pair(b"A")
    unbounded = dict.fromkeys(
        ("mem_storage", "disk_storage", "streams", "consumer", "conn", "subs", "data", "payload"),
        -1,
    )
    settings, credentials = tmp_path / "nats.conf", tmp_path / "svc.creds"
    settings.write_text(
        f"operator: {signed_claims(operator, operator[0], type='operator')}\n"
        f"resolver: MEMORY\nsystem_account: {system[0]}\nresolver_preload: {{\n"
        f"{account[0]}: {signed_claims(operator, account[0], type='account', limits=unbounded)}\n"
        f"{system[0]}: {signed_claims(operator, system[0], type='account')}\n}}\n"
    )
    jwt = signed_claims(account, user[0], type="user", subs=-1, data=-1, payload=-1)
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "IMPORTANT: keep it\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user[1]}\n------END USER NKEY SEED------\n"
    )
    with nats(tmp_path, "--config", str(settings)) as broker:
        await can_publish(f"{broker.url}?credsfile={credentials}")


@pytest.mark.parametrize("parameter", ["credsfile", "nkeyfile"])
@pytest.mark.parametrize("content", ["", "MARKER", "SUMARKER", "-----BEGIN NATS USER JWT-----\n"])
def test_a_file_that_holds_no_key_is_refused_without_its_content(
    tmp_path: Path, parameter: str, content: str
) -> None:
    file = tmp_path / "wrong"
    file.write_text(content)

    with pytest.raises(OSError, match=f"the URL's {parameter} .*") as refusal:
        sign_in(f"nats://host?{parameter}={file}")

    assert "MARKER" not in str(refusal.value)

"""NATS: the streams and the bucket of services, their copies, and the rights of a login.

A server tells a login its own rights alone, and its users are configuration: see `manifests`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from time import time
from typing import TYPE_CHECKING, Any

from dockyard.servers import needs
from dockyard.servers.address import Address, Unreachable
from dockyard.servers.clients import client_of
from dockyard.servers.findings import Report

if TYPE_CHECKING:
    from nats.aio.client import Client

TIMEOUT_SECONDS = 5
_NO_STREAM = 10059
_MOST_COPIES = 3
"""More are not expected: three survive the loss of a node."""

Answer = dict[str, Any]


async def _quiet(_: Exception) -> None:
    """What the server refuses is found by its missing answer."""


@asynccontextmanager
async def _connected(address: Address) -> "AsyncIterator[Client]":
    nats = client_of("nats")
    errors = client_of("nats.errors")
    try:
        client = await nats.connect(
            address.url.split(","),
            name="dockyard platform",
            allow_reconnect=False,
            connect_timeout=TIMEOUT_SECONDS,
            error_cb=_quiet,
        )
        try:
            yield client
        finally:
            await client.close()
    except (errors.Error, OSError, ValueError) as error:
        raise Unreachable(address, str(error) or type(error).__name__) from None


async def _ask(client: "Client", subject: str, request: object = None) -> Answer | None:
    """The answer; None if there is none, which is how a server refuses a subject."""
    errors = client_of("nats.errors")
    body = b"" if request is None else json.dumps(request).encode()
    try:
        message = await client.request(subject, body, timeout=TIMEOUT_SECONDS)
    except (errors.TimeoutError, errors.NoRespondersError):
        return None
    answer: Answer = json.loads(message.data)
    return answer


def bootstrap(
    address: Address, services: Sequence[str], quotas: needs.Quotas, nodes: int
) -> list[str]:
    """Make the streams and the bucket, or raise what exists; never lower or empty it."""
    return asyncio.run(_bootstrap(address, tuple(services), quotas, min(nodes, _MOST_COPIES)))


async def _bootstrap(
    address: Address, services: tuple[str, ...], quotas: needs.Quotas, replicas: int
) -> list[str]:
    made = []
    async with _connected(address) as client:
        for wanted in needs.nats_streams(services, replicas, quotas):
            name = str(wanted["name"])
            found = await _ask(client, f"$JS.API.STREAM.INFO.{name}")
            there = None if found is None else found.get("config")
            verb, config = (
                ("CREATE", wanted) if there is None else ("UPDATE", _raised(there, wanted))
            )
            answer = await _ask(client, f"$JS.API.STREAM.{verb}.{name}", config)
            if answer is None or "error" in answer:
                why = (answer or {}).get("error", {}).get("description", "no answer")
                raise Unreachable(address, f"the stream {name} is refused: {why}")
            made.append(f"stream {name}, {config['num_replicas']} copies")
    return made


def _raised(there: Answer, wanted: Answer) -> Answer:
    """What exists, with what it lacks. Bounds that somebody set stay."""
    raised = dict(there)
    raised["num_replicas"] = max(there["num_replicas"], wanted["num_replicas"])
    raised["subjects"] = [*there["subjects"]] + [
        subject for subject in wanted["subjects"] if subject not in there["subjects"]
    ]
    for flag in ("allow_msg_schedules", "allow_msg_ttl", "discard"):
        if flag in wanted:
            raised[flag] = wanted[flag]
    if there["max_age"] and "max_age" in wanted and "max_msgs_per_subject" in wanted:
        raised["max_age"] = max(there["max_age"], wanted["max_age"])
    return raised


def check(
    address: Address, services: Sequence[str], nodes: int | None, quotas: needs.Quotas
) -> Report:
    return asyncio.run(_check(address, tuple(services), nodes, quotas))


async def _check(
    address: Address, services: tuple[str, ...], nodes: int | None, quotas: needs.Quotas
) -> Report:
    report = Report("nats", address.shown)
    async with _connected(address) as client:
        version = client.connected_server_version
        shown = f"{version.major}.{version.minor}.{version.patch}"
        report.version(shown, needs.NATS_OLDEST, "NATS")
        login = ((await _ask(client, "$SYS.REQ.USER.INFO")) or {}).get("data") or {}
        user = str(login.get("user") or address.user)
        services = (user,) if user in services else services
        _rights(report, login, user, services)
        copies = min(nodes or 1, _MOST_COPIES)
        for wanted in needs.nats_streams(services, copies, quotas):
            await _stream(report, client, wanted)
    return report


def _rights(report: Report, login: Answer, user: str, services: tuple[str, ...]) -> None:
    where = f"user {user or 'without a name'}"
    if user not in services:
        mend = "run the check again with the login of each service"
        report.warn(
            where, "NATS tells a login its own rights alone, and this is no service's", mend
        )
        return
    report.seen.append(f"rights of {user}")
    if not login:
        mend = "allow it to publish to $SYS.REQ.USER.INFO, and give the server a system account"
        report.warn(where, "it may not ask the server for its rights", mend)
        return
    permissions = login.get("permissions") or {}
    if "publish" not in permissions:
        mend = "give it the permissions that `dockyard platform bootstrap --into` writes"
        report.warn(where, "it has more rights than it needs: every subject", mend)
    for way, wanted in (
        ("publish", needs.nats_publishes(user)),
        ("subscribe", needs.NATS_SUBSCRIBES),
    ):
        rule = permissions.get(way)
        missing = [] if rule is None else [s for s in wanted if not _allowed(rule, s)]
        if missing:
            what = f"it may not {way} to {', '.join(missing)}"
            mend = f"add these subjects to {way}.allow of its permissions, and reload the server"
            report.fault(where, what, mend)


def _allowed(rule: Mapping[str, Sequence[str]], subject: str) -> bool:
    allow, deny = rule.get("allow") or [">"], rule.get("deny") or []
    return any(covers(wide, subject) for wide in allow) and not any(
        covers(wide, subject) or covers(subject, wide) for wide in deny
    )


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches each subject that `narrow` matches."""
    there, asked = wide.split("."), narrow.split(".")
    for place, part in enumerate(there):
        if part == ">":
            return len(asked) > place
        if place >= len(asked) or asked[place] == ">":
            return False
        if part not in {"*", asked[place]}:
            return False
    return len(there) == len(asked)


async def _stream(report: Report, client: "Client", wanted: Answer) -> None:
    name = wanted["name"]
    where = f"stream {name}"
    found = await _ask(client, f"$JS.API.STREAM.INFO.{name}")
    if found is None:
        mend = f"allow the login to publish to $JS.API.STREAM.INFO.{name}, and turn JetStream on"
        report.fault(where, "the server gives no answer about it", mend)
        return
    if "error" in found:
        missing = found["error"].get("err_code") == _NO_STREAM
        what = "it does not exist" if missing else str(found["error"].get("description"))
        report.fault(where, what, "make it with `dockyard platform bootstrap`")
        return
    report.seen.append(where)
    if wanted["name"] == needs.EVENTS and "ts" in found:
        report.clock(datetime.fromisoformat(_to_micros(found["ts"])).timestamp() - time())
    _bounds(report, where, found["config"], wanted)
    _copies(report, where, found, int(wanted["num_replicas"]))


def _to_micros(moment: str) -> str:
    """Python 3.11 reads no more than six digits of a second."""
    seconds, _, rest = moment.rstrip("Z").partition(".")
    return f"{seconds}.{rest[:6].ljust(6, '0')}+00:00"


def _bounds(report: Report, where: str, there: Answer, wanted: Answer) -> None:
    raise_it = "`dockyard platform bootstrap` raises it; the service does too if it may"
    lacking = [s for s in wanted["subjects"] if not any(covers(w, s) for w in there["subjects"])]
    if lacking:
        report.fault(where, f"it does not take {', '.join(lacking)}", raise_it)
    for flag in ("allow_msg_schedules", "allow_msg_ttl"):
        if wanted.get(flag) and not there.get(flag):
            report.fault(where, f"{flag} is off", raise_it)
    if wanted.get("discard") == "new" and there.get("discard") != "new":
        report.fault(where, "when it is full it drops its oldest messages", raise_it)
    history = wanted.get("max_msgs_per_subject")
    if history and there.get("max_msgs_per_subject") != history:
        mend = "delete the bucket if nothing else uses it, and make it with bootstrap"
        report.fault(where, "it keeps a history of each key", mend)
    if history and 0 < there.get("max_age", 0) < wanted.get("max_age", 0):
        days = there["max_age"] / 10**9 / needs.DAY
        report.fault(where, f"it forgets handled events after {days:.2g} days", raise_it)


def _copies(report: Report, where: str, found: Answer, wanted: int) -> None:
    there = found["config"]["num_replicas"]
    if there < wanted:
        what = f"it has {there} of {wanted} copies: the loss of a node loses events"
        report.fault(where, what, "raise its replicas with `dockyard platform bootstrap --nodes`")
    cluster = found.get("cluster") or {}
    if there > 1 and not cluster.get("leader"):
        report.fault(where, "it has no leader", "start the missing nodes of its copies")
    for other in cluster.get("replicas") or []:
        if other.get("offline") or not other.get("current"):
            what = f"its copy on {other.get('name')} is not up to date"
            report.warn(where, what, "start that node, or wait until it has caught up")

"""RabbitMQ through its management API: users, permissions, limits, policies, queues, nodes."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from dockyard.servers import needs, passwords
from dockyard.servers.address import Address, Unreachable
from dockyard.servers.findings import Report

TIMEOUT_SECONDS = 20
DROPPING = ("message-ttl", "expires", "max-length", "max-length-bytes")
"""Keys of a policy that lose events of a queue, or the queue."""


class Management:
    """The API at `address`. Its path names the virtual host, `/` if there is none."""

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url)
        host = parts.netloc.rpartition("@")[2]
        self._root = f"{parts.scheme}://{host}/api"
        self.vhost = unquote(parts.path.strip("/")) or "/"
        self.at = quote(self.vhost, safe="")
        login = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        self._address = address
        self.skew = 0.0

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer; None for 404. Raises Unreachable."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._root + path, data, self._headers, method=method)  # noqa: S310 - the scheme is http(s): see address
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
                if date := answer.headers.get("Date"):
                    behind = parsedate_to_datetime(date) - datetime.now(UTC)
                    self.skew = behind.total_seconds() + 0.5  # the date is cut to seconds
                text = answer.read()
        except HTTPError as refusal:
            if refusal.code == 404:
                return None
            why = refusal.read().decode(errors="replace")[:300]
            raise Unreachable(self._address, f"{method} {path}: {refusal.code} {why}") from None
        except (OSError, HTTPException) as error:
            raise Unreachable(self._address, str(error)) from None
        return json.loads(text) if text else {}


def bootstrap(
    address: Address, services: Sequence[str], known: Mapping[str, str], quotas: needs.Quotas
) -> list[str]:
    """Make the virtual host, a user for each service and its limits; returns what was made."""
    api = Management(address)
    if api.call("GET", f"/vhosts/{api.at}") is None:
        api.call("PUT", f"/vhosts/{api.at}", {"default_queue_type": "quorum"})
    exchange = {"type": "topic", "durable": True}
    api.call("PUT", f"/exchanges/{api.at}/{needs.EXCHANGE}", exchange)
    made = [f"virtual host {api.vhost} with the exchange {needs.EXCHANGE}"]
    for service in services:
        api.call("PUT", f"/users/{service}", user(known[service]))
        rights = needs.rabbitmq_rights(service)
        api.call("PUT", f"/permissions/{api.at}/{service}", rights)
        limit = {"value": quotas.connections}
        api.call("PUT", f"/user-limits/{service}/max-connections", limit)
        made.append(f"user {service}, at most {quotas.connections} connections")
    return made


def user(password: str) -> dict[str, str]:
    """Without a tag: it sees nothing in the management API."""
    return {
        "password_hash": passwords.of_rabbitmq(password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
    }


def check(address: Address, services: Sequence[str], nodes: int | None) -> Report:
    api = Management(address)
    report = Report("rabbitmq", address.shown)
    overview = api.call("GET", "/overview") or {}
    report.version(str(overview.get("rabbitmq_version", "")), needs.RABBITMQ_OLDEST, "RabbitMQ")
    _nodes(report, api.call("GET", "/nodes") or [], nodes)
    report.clock(api.skew)
    if api.call("GET", f"/vhosts/{api.at}") is None:
        where = f"virtual host {api.vhost}"
        mend = (
            "name an existing one in the URL's path, or make it with `dockyard platform bootstrap`"
        )
        report.fault(where, "it does not exist", mend)
        return report
    queues = api.call("GET", f"/queues/{api.at}") or []
    for service in services:
        _rights(report, api, service)
        own = [q for q in queues if q["name"] == service or q["name"].startswith(f"{service}.")]
        _queues(report, own, nodes)
    _policies(report, api, services)
    return report


def _nodes(report: Report, nodes: Sequence[Mapping[str, Any]], wanted: int | None) -> None:
    running = [node for node in nodes if node.get("running")]
    report.nodes(len(running), wanted, "cluster")
    for node in running:
        for alarm, what in (("mem_alarm", "memory"), ("disk_free_alarm", "disk space")):
            if node.get(alarm):
                mend = "give the node more of it, or let consumers empty the queues"
                short = f"it is short of {what} and takes no event from publishers"
                report.fault(f"node {node['name']}", short, mend)
        if node.get("partitions"):
            what = f"it does not see {', '.join(node['partitions'])}"
            report.fault(f"node {node['name']}", what, "mend the network, then restart this node")


def _rights(report: Report, api: Management, service: str) -> None:
    where = f"user {service}"
    report.seen.append(f"rights of {service}")
    user = api.call("GET", f"/users/{service}")
    if user is None:
        report.fault(where, "it does not exist", "make it with `dockyard platform bootstrap`")
        return
    granted = api.call("GET", f"/permissions/{api.at}/{service}") or {}
    for right, least in needs.rabbitmq_rights(service).items():
        pattern = granted.get(right, "")
        missing = [n for n in needs.rabbitmq_names(service)[right] if not _covers(pattern, n)]
        if missing:
            what = (
                f"it has no right to {right} {', '.join(missing)} in the virtual host {api.vhost}"
            )
            report.fault(where, what, f"set its `{right}` permission to {least}")
    tags = user.get("tags") or []
    tags = tags.split(",") if isinstance(tags, str) else tags
    if {"administrator", "policymaker", "monitoring"} & set(tags):
        mend = f"`rabbitmqctl set_user_tags {service}` takes the tags away"
        report.warn(where, f"it has more rights than it needs: {', '.join(tags)}", mend)


def _covers(pattern: str, name: str) -> bool:
    """RabbitMQ searches for the pattern; an empty one matches nothing."""
    try:
        return bool(pattern) and re.search(pattern, name) is not None
    except re.error:
        return False


def _queues(report: Report, queues: Sequence[Mapping[str, Any]], nodes: int | None) -> None:
    for queue in queues:
        where = f"queue {queue['name']}"
        if queue.get("exclusive"):
            continue
        if queue.get("type") != "quorum":
            mend = (
                "drain it, delete it, and restart the service, which declares it as a quorum queue"
            )
            report.fault(where, f"it is a {queue.get('type')} queue and has no copies", mend)
        elif nodes is not None and len(queue.get("members", [])) < min(nodes, 3):
            there = len(queue.get("members", []))
            what = f"{there} of {min(nodes, 3)} nodes keep a copy of it"
            report.fault(where, what, "`rabbitmq-queues grow NODE all` adds copies")


def _policies(report: Report, api: Management, services: Sequence[str]) -> None:
    report.seen.append("policies")
    for kind in ("policies", "operator-policies"):
        for policy in api.call("GET", f"/{kind}/{api.at}") or []:
            if policy.get("apply-to") == "exchanges":
                continue
            lossy = [key for key in DROPPING if key in policy.get("definition", {})]
            hit = [s for s in services if _covers(policy["pattern"], s)]
            if lossy and hit:
                what = f"it sets {', '.join(lossy)} on the queue {', '.join(hit)}: events get lost"
                where = f"{'operator ' if kind.startswith('o') else ''}policy {policy['name']}"
                report.fault(where, what, "change its pattern so that it leaves these queues alone")

"""Streams and consumers as the servers describe them: each once, as its leader sees it.

Every server describes its own replica, and only the leader's numbers are exact. Without a leader,
a stream is taken from the first server that has a replica.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from nats_exporter.server import Json, Snapshot


@dataclass(frozen=True, slots=True)
class View:
    """A stream (`consumer` is empty) or a consumer, and whether it has a leader."""

    account: str
    stream: str
    consumer: str
    detail: Json
    has_leader: bool

    @property
    def labels(self) -> list[str]:
        return [self.account, self.stream, *([self.consumer] if self.consumer else [])]

    @property
    def peers(self) -> list[Json]:
        """The replicas beside the leader's."""
        found: list[Json] = self.detail.get("cluster", {}).get("replicas") or []
        return found


def streams_and_consumers(snapshots: Sequence[Snapshot]) -> tuple[list[View], list[View]]:
    best: dict[tuple[str, ...], tuple[bool, View]] = {}
    for snapshot in snapshots:
        for view in _views(snapshot):
            cluster = view.detail.get("cluster") or {}
            leads = cluster.get("leader", snapshot.name) == snapshot.name
            key = (view.account, view.stream, view.consumer)
            if key not in best or (leads and not best[key][0]):
                best[key] = (leads, view)
    views = [view for _, view in best.values()]
    return [view for view in views if not view.consumer], [view for view in views if view.consumer]


def _views(snapshot: Snapshot) -> Iterator[View]:
    clustered = bool(snapshot.varz.get("cluster", {}).get("name"))
    for account in snapshot.jsz.get("account_details") or []:
        for stream in account.get("stream_detail") or []:
            names = (account["name"], stream["name"])
            consumers = ((each["name"], each) for each in stream.get("consumer_detail") or [])
            for consumer, detail in chain([("", stream)], consumers):
                led = not clustered or bool((detail.get("cluster") or {}).get("leader"))
                yield View(*names, consumer, detail, led)

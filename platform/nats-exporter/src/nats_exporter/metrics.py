"""The metrics: which number of which answer goes by which name. Knows no Prometheus client."""

from collections.abc import Callable, Mapping

from nats_exporter.jetstream import View
from nats_exporter.server import Json, Snapshot, seconds

Number = float | None
"""None: not exported. Nobody is told a number that no server measured."""

_NANOSECONDS = 1e9


def _bound(limit: float | None) -> Number:
    """0 and -1 both say that there is none."""
    return limit if limit is not None and limit > 0 else None


def _time(stamp: str | None) -> Number:
    return None if stamp is None or stamp.startswith("0001-") else seconds(stamp)


def _meta(snapshot: Snapshot, number: Callable[[Json], float]) -> Number:
    meta = snapshot.jsz.get("meta_cluster")
    return None if meta is None else number(meta)


def _is_current(peer: Json) -> bool:
    return bool(peer.get("current")) and not peer.get("offline")


OF_SERVERS: Mapping[str, tuple[str, Callable[[Snapshot], Number]]] = {
    "start_time_seconds": ("Unix time of the start.", lambda s: seconds(s.varz["start"])),
    "clock_offset_seconds": (
        "Seconds by which the server's clock is ahead of the exporter's.",
        lambda s: s.clock_offset,
    ),
    "cpu_cores": ("Cores in use.", lambda s: s.varz["cpu"] / 100),
    "memory_bytes": ("Resident memory.", lambda s: s.varz["mem"]),
    "connections": ("Clients that are connected.", lambda s: s.connz["total"]),
    "connections_max": ("Clients that may be connected.", lambda s: s.varz["max_connections"]),
    "pending_bytes": (
        "Bytes that wait to be written to the connection that has the most of them.",
        lambda s: max((each["pending_bytes"] for each in s.connz["connections"]), default=0),
    ),
    "pending_max_bytes": ("Bytes that may wait for one client.", lambda s: s.varz["max_pending"]),
    "subscriptions": ("Subscriptions.", lambda s: s.varz["subscriptions"]),
    "routes": ("Connections to other servers of the cluster.", lambda s: s.varz["routes"]),
    "certificate_expiry_timestamp_seconds": (
        "Unix time at which the server's certificate ends.",
        lambda s: _time(s.varz.get("tls_cert_not_after")),
    ),
    "jetstream_memory_bytes": ("Memory in streams.", lambda s: s.jsz.get("memory")),
    "jetstream_memory_max_bytes": (
        "Memory that streams may take.",
        lambda s: _bound(s.jsz.get("config", {}).get("max_memory")),
    ),
    "jetstream_storage_bytes": ("Disk space in streams.", lambda s: s.jsz.get("storage")),
    "jetstream_storage_max_bytes": (
        "Disk space that streams may take.",
        lambda s: _bound(s.jsz.get("config", {}).get("max_storage")),
    ),
    "jetstream_reserved_storage_bytes": (
        "Disk space that bounded streams may take, whether they do or not.",
        lambda s: s.jsz.get("reserved_storage"),
    ),
    "jetstream_meta_has_leader": (
        (
            "1 while the server knows the leader of the cluster's metadata;"
            " absent outside of clusters."
        ),
        lambda s: _meta(s, lambda meta: bool(meta.get("leader"))),
    ),
    "jetstream_meta_peers": (
        "Servers that belong to the metadata's group, running or not.",
        lambda s: _meta(s, lambda meta: meta.get("cluster_size", 0)),
    ),
}
TOTALS_OF_SERVERS: Mapping[str, tuple[str, Callable[[Snapshot], Number]]] = {
    "connections_opened": ("Connections ever taken.", lambda s: s.varz["total_connections"]),
    "slow_consumers": (
        "Clients cut off because they read too slowly.",
        lambda s: s.varz["slow_consumers"],
    ),
    "received_messages": ("Messages received.", lambda s: s.varz["in_msgs"]),
    "received_bytes": ("Bytes received.", lambda s: s.varz["in_bytes"]),
    "sent_messages": ("Messages sent.", lambda s: s.varz["out_msgs"]),
    "sent_bytes": ("Bytes sent.", lambda s: s.varz["out_bytes"]),
    "jetstream_api_requests": (
        "Requests to JetStream's API.",
        lambda s: s.jsz.get("api", {}).get("total"),
    ),
    "jetstream_api_errors": (
        "Requests to JetStream's API that were refused.",
        lambda s: s.jsz.get("api", {}).get("errors"),
    ),
}
OF_STREAMS: Mapping[str, tuple[str, Callable[[View], Number]]] = {
    "messages": ("Messages kept.", lambda v: v.detail["state"]["messages"]),
    "bytes": ("Bytes kept.", lambda v: v.detail["state"]["bytes"]),
    "first_sequence": ("Number of the oldest message.", lambda v: v.detail["state"]["first_seq"]),
    "last_sequence": ("Number of the newest message.", lambda v: v.detail["state"]["last_seq"]),
    "oldest_timestamp_seconds": (
        "Unix time of the oldest message; absent when there is none.",
        lambda v: seconds(v.detail["state"]["first_ts"]) if v.detail["state"]["messages"] else None,
    ),
    "messages_max": (
        "Messages that are kept at most; absent without a bound.",
        lambda v: _bound(v.detail["config"]["max_msgs"]),
    ),
    "bytes_max": (
        "Bytes that are kept at most; absent without a bound.",
        lambda v: _bound(v.detail["config"]["max_bytes"]),
    ),
    "age_max_seconds": (
        "Seconds that a message is kept; absent without a bound.",
        lambda v: _bound(v.detail["config"]["max_age"] / _NANOSECONDS),
    ),
    "consumers": ("Consumers.", lambda v: v.detail["state"]["consumer_count"]),
    "replicas_wanted": ("Replicas asked for.", lambda v: v.detail["config"]["num_replicas"]),
    "replicas_current": (
        "Replicas that are online and up to date, the leader's among them.",
        lambda v: int(v.has_leader) + sum(_is_current(peer) for peer in v.peers),
    ),
    "has_leader": ("1 while a server leads the stream, else 0.", lambda v: v.has_leader),
}
OF_CONSUMERS: Mapping[str, tuple[str, Callable[[View], Number]]] = {
    "pending_messages": ("Messages not yet delivered.", lambda v: v.detail["num_pending"]),
    "unacknowledged_messages": (
        "Messages delivered and not yet acknowledged.",
        lambda v: v.detail["num_ack_pending"],
    ),
    "redelivered_messages": (
        "Messages in hand that were delivered more than once.",
        lambda v: v.detail["num_redelivered"],
    ),
    "waiting_pulls": ("Pulls that wait for messages.", lambda v: v.detail["num_waiting"]),
    "delivered_sequence": (
        "Number in the stream of the last message delivered.",
        lambda v: v.detail["delivered"]["stream_seq"],
    ),
    "acknowledged_sequence": (
        "Number in the stream up to which all is acknowledged.",
        lambda v: v.detail["ack_floor"]["stream_seq"],
    ),
    "has_leader": ("1 while a server leads the consumer, else 0.", lambda v: v.has_leader),
}

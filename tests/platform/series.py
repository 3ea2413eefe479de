"""Which series expressions name, and which of them somebody shows."""

import re

from nats_exporter.metrics import OF_CONSUMERS, OF_SERVERS, OF_STREAMS, TOTALS_OF_SERVERS
from tests.monitoring.rules import exported

OF_KUBERNETES = {
    "certmanager_certificate_expiration_timestamp_seconds",
    "keda_scaler_detail_errors_total",
    "kube_deployment_spec_replicas",
    "kube_deployment_status_condition",
    "kube_deployment_status_replicas_updated",
    "kube_job_failed",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "kubelet_volume_stats_used_bytes",
    "node_timex_offset_seconds",
    "node_timex_sync_status",
    "probe_ssl_earliest_cert_expiry",
}
"""Series of cert-manager, KEDA, kube-state-metrics, the kubelet, node and blackbox exporters."""

OF_SERVERS_AND_STORES = ("rabbitmq_", "redis_", "pg_")
"""Prefixes of what the live tests look for at the real exporters."""

_NOISE = re.compile(
    r""""[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)"""
)
_WORD = re.compile(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()")
_KEYWORDS = {"and", "or", "unless", "offset", "by", "on", "bool"}


def named(expression: str) -> set[str]:
    """The series that `expression` selects."""
    bare = re.sub(r"\{[^}]*\}", " ", re.sub(r'"[^"]*"', "", expression))
    return set(_WORD.findall(_NOISE.sub(" ", bare))) - _KEYWORDS


def unknown(expression: str) -> set[str]:
    """The series in `expression` that no exporter shows, as far as that is known without one."""
    of_nats = {f"nats_server_{name}" for name in OF_SERVERS}
    of_nats |= {f"nats_server_{name}_total" for name in TOTALS_OF_SERVERS}
    of_nats |= {f"nats_stream_{name}" for name in OF_STREAMS}
    of_nats |= {f"nats_consumer_{name}" for name in OF_CONSUMERS}
    known = of_nats | OF_KUBERNETES | exported() | {"up", "nats_up", "nats_server_info"}
    return {
        name for name in named(expression) - known if not name.startswith(OF_SERVERS_AND_STORES)
    }

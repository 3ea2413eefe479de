"""What the dashboard of Kubernetes and KEDA asks."""

from monitoring.panel import Panel

ROWS: dict[str, tuple[Panel, ...]] = {
    "Services": (
        Panel(
            "Replicas that are not of the new release",
            "Replicas that a rollout has yet to replace, by deployment.",
            "short",
            (
                (
                    "{{deployment}}",
                    (
                        "kube_deployment_spec_replicas"
                        " - kube_deployment_status_replicas_updated > 0"
                        " or vector(0)"
                    ),
                ),
            ),
        ),
        Panel(
            "Failed migrations",
            "Jobs of migrations that failed.",
            "short",
            (
                (
                    "{{job_name}}",
                    'kube_job_failed{job_name=~".+-migrate", condition="true"} > 0 or vector(0)',
                ),
            ),
        ),
        Panel(
            "Errors of scalers",
            "Questions of KEDA to a broker that failed.",
            "ops",
            (
                (
                    "{{scaledObject}}",
                    (
                        "sum by (scaledObject) "
                        "(rate(keda_scaler_detail_errors_total[$__rate_interval]))"
                        " or vector(0)"
                    ),
                ),
            ),
        ),
    ),
    "Below them": (
        Panel(
            "Volumes",
            "Share of each volume in use.",
            "percentunit",
            (
                (
                    "{{persistentvolumeclaim}}",
                    (
                        "topk(10, kubelet_volume_stats_used_bytes"
                        " / kubelet_volume_stats_capacity_bytes)"
                    ),
                ),
            ),
        ),
        Panel(
            "Certificates",
            "Seconds until a certificate ends; the five that end first.",
            "s",
            (
                (
                    "{{name}}",
                    "bottomk(5, certmanager_certificate_expiration_timestamp_seconds - time())",
                ),
            ),
        ),
        Panel(
            "Clocks",
            "Seconds by which the clock of a node is off.",
            "s",
            (("{{instance}}", "node_timex_offset_seconds"),),
        ),
    ),
}

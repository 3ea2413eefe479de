"""The panels of a service's HTTP app. Knows the metrics of the chassis, nothing of Grafana."""

from monitoring.panel import Panel, counter, quantile

SECONDS = "http_server_request_duration_seconds"

WEB = (
    Panel(
        "Requests, by status",
        "Answers of the mounted app. Empty without one.",
        "ops",
        (("{{status}}", counter(f"{SECONDS}_count", "status")),),
        "stack",
    ),
    Panel(
        "Failed requests, by route",
        "Answers 5xx, among them the 503 that tells a caller to try again.",
        "ops",
        (("{{route}}", counter(f"{SECONDS}_count", "route", more=', status=~"5.."')),),
    ),
    Panel(
        "Time of an answer, by route",
        "99 of 100 requests were answered within this time.",
        "s",
        (("{{route}}", quantile(0.99, SECONDS, "route")),),
    ),
)

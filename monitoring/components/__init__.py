"""What the dashboards of brokers, stores and the cluster ask: panels by component.

Knows the metrics of the exporters; knows nothing of Grafana but the names of its units.
"""

from monitoring.components import kubernetes, nats, postgresql, rabbitmq, redis

BOARDS = {
    "rabbitmq": ("RabbitMQ", rabbitmq.ROWS),
    "nats": ("NATS", nats.ROWS),
    "redis": ("Redis", redis.ROWS),
    "postgresql": ("PostgreSQL", postgresql.ROWS),
    "kubernetes": ("Kubernetes and KEDA", kubernetes.ROWS),
}

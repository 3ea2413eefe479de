"""A Prometheus exporter for NATS servers with JetStream, over their monitoring port."""

"""The platform: rules, dashboards, exporter and Alertmanager's configuration, against the real components."""

"""The platform's rules, dashboards, exporter and Alertmanager, against the real components."""

"""Logs, metrics and traces: one file each, none knows the rest of the chassis."""

"""Dockyard: lays down event-driven services and keeps them alike."""

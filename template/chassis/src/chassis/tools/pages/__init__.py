"""Self-contained HTML pages that a developer's command writes. Knows no bus and no service."""

"""Self-contained HTML pages: one builder for all of them."""

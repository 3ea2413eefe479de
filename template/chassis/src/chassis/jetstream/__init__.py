"""The supervised connection to NATS, shared by bus and inbox. Knows no event and no claim."""

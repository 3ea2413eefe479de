"""The supervised connection to NATS, shared by its bus and its inbox. Knows no event and no claim."""

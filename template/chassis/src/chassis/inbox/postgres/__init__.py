"""What stands behind the inbox in PostgreSQL: connections, schema, a handling's transaction, the outbox."""

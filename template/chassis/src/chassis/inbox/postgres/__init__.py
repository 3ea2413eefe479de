"""The parts of the inbox in PostgreSQL: connections, schema, transactions, outbox."""

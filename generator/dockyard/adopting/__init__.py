"""From files without a record to a service with one. Prints nothing."""

"""Events on their way out: encoded, checked, confirmed. Knows the bus port, never a broker."""

"""Real servers for the tests: found, started on free ports in temp folders, always stopped."""

"""`dockyard demo`: the whole story on this machine, with real services, a real broker and real kills."""

"""`dockyard demo`: the whole story on this machine. Services, broker and kills are real."""

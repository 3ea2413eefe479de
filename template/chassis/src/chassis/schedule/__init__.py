"""What a service does without an event: what runs in one replica alone.

Knows the inbox port, whose claims it uses; knows no bus and no store.
"""

"""Processes (sagas): state by key that events move on, from a first event to completion.

A process is state that messages drive. No code is replayed, so a deploy strands no process.
"""

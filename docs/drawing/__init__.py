"""Draws the pictures of the README: `python -m docs.drawing`."""

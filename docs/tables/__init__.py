"""Meanings and Markdown for the tables that docs/reference.py writes."""

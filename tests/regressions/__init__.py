"""Defects that others had, each with the test that would find it here."""

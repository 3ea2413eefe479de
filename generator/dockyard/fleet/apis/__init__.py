"""Speaks to the APIs of forges over HTTP. Knows forges; knows nothing of git, fleets or templates.

Each forge is one module behind the port in `port`; `http` carries the requests.
"""

"""Lets `python -m dockyard` be the command `dockyard`."""

from dockyard.cli import main

main()

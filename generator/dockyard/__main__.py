"""Lets `python -m dockyard` be the command `dockyard`."""

from dockyard.cli import main

if __name__ == "__main__":  # worker processes of a fleet import this module too
    main()

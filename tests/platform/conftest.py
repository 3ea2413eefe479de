"""The rendered service of the rules' tests, for its own rules."""

from tests.monitoring.conftest import rendered

__all__ = ["rendered"]

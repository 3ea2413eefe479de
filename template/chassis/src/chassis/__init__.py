"""What a service imports. Everything else of the chassis is its own affair."""

from chassis.context import Context
from chassis.retry import Reject, RetryAfter
from chassis.service import Service

__all__ = ["Context", "Reject", "RetryAfter", "Service"]

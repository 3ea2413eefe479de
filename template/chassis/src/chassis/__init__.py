"""What a service imports. Everything else of the chassis is its own affair.

Each name is imported at its first use: commands that need no handler start without the runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chassis.batches.batch import Batch
    from chassis.context import Context
    from chassis.processes.context import ProcessContext
    from chassis.processes.wakeups import WakeUp
    from chassis.replica.scripts import connected
    from chassis.retry import Reject, RetryAfter
    from chassis.schedule.leader import Lead
    from chassis.schedule.ticks import Tick
    from chassis.service import Service
    from chassis.unavailable import Unavailable
else:
    _HOMES = {
        "Batch": "chassis.batches.batch",
        "Context": "chassis.context",
        "connected": "chassis.replica.scripts",
        "Lead": "chassis.schedule.leader",
        "ProcessContext": "chassis.processes.context",
        "Reject": "chassis.retry",
        "RetryAfter": "chassis.retry",
        "Service": "chassis.service",
        "Tick": "chassis.schedule.ticks",
        "Unavailable": "chassis.unavailable",
        "WakeUp": "chassis.processes.wakeups",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(_HOMES[name]), name)
        return globals()[name]


__all__ = [
    "Batch",
    "Context",
    "Lead",
    "ProcessContext",
    "Reject",
    "RetryAfter",
    "Service",
    "Tick",
    "Unavailable",
    "WakeUp",
    "connected",
]

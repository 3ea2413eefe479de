"""structlog, and the standard library's logging through it: JSON lines, or colours on a terminal.

Every line written while a handler runs carries the fields of `handling`. Never a payload.
"""

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from io import StringIO
from typing import Any, Literal, Protocol, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from chassis.telemetry.text import harmless, harmless_line


class LogFields(Protocol):
    def log_fields(self) -> Mapping[str, object]:
        """Fields to add to each line."""


handling: ContextVar[LogFields | None] = ContextVar("handling", default=None)

# Without the frames' locals, which hold payloads and URLs with passwords.
_tracebacks = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure(log_format: Literal["auto", "json", "console"], level: str, service: str) -> None:
    """Set up logging of the process. `level` is a name; `service` is on each JSON line."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())

    def add_service(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        line.setdefault("service", service)
        return line

    shared: list[Processor] = [
        _add_handling,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    if console:
        colours = sys.stderr.isatty()
        last = [
            _escape,
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=_write_traceback),
        ]
    else:
        last = [add_service, _tracebacks, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiormq", "nats", "asyncio", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _escape(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """No value acts on the terminal; JSON escapes by itself."""
    for name, value in line.items():
        if name in {"exception", "stack"}:
            line[name] = harmless(str(value))
        elif name != "exc_info" and not isinstance(value, int | float | None):
            line[name] = harmless_line(value if isinstance(value, str) else repr(value))
    return line


def _write_traceback(out: TextIO, exc_info: ExcInfo) -> None:
    plain = StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    out.write(harmless(plain.getvalue()))


def _add_handling(_logger: Any, _method: str, line: EventDict) -> EventDict:
    current = handling.get()
    if current is not None:
        for name, value in current.log_fields().items():
            line.setdefault(name, value)
    return line

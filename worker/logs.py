"""Log lines for people on a terminal and JSON for machines; never a URL with its query, a key or a password."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

#: Libraries that log their every step at `info`, or at `debug` what they send: records and requests, which hold users' tokens.
CHATTY = (
    *("urllib3", "aria2p", "httpx", "kombu", "celery.redirected", "celery.worker.strategy", "celery.app.trace", "uvicorn.access"),
    *("pymongo", "qbittorrentapi"),
)


def configure(level: str, form: str) -> None:
    """Send all logs of this process to stderr in one form. Call once, at the start of a process."""
    machine = form == "json"
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso" if machine else "%H:%M:%S", utc=machine),
    ]
    renderer: Any = structlog.processors.JSONRenderer() if machine else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes an event and key-value pairs."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger

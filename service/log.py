"""How log lines look: one event a line, on standard error, so that standard output stays the announcements' own."""

import logging
import sys

import structlog


def configure_log(level: str, style: str, **always: object) -> None:
    """Set up structlog for this process; `style` is `json`, `console`, or `auto` for console on a terminal.

    Every line holds what is `always` to be in it.
    """
    # Without the values of variables: they hold what users write.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    to_people = style == "console" or (style == "auto" and sys.stderr.isatty())

    def add_always(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**line, **always}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        *([add_always] if always else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if to_people
        else [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _Passing) for handler in root.handlers):
        root.addHandler(_Passing(logging.WARNING))


class _Passing(logging.Handler):
    """Passes on what libraries (uvicorn, asyncio, grpc) say by way of the standard library, from warnings on."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(
            record.levelno, record.getMessage().strip(), logger=record.name, exc_info=record.exc_info or None
        )

"""Logging: one event per line on standard error. Standard output is for the announcements."""

import json
import logging
import select
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import structlog

# Maximum characters of a text and items of a list in a line. The further pairs shorten lines that are still longer than
# a pipe accepts in one write (POSIX: PIPE_BUF): beyond that, the lines of several workers would mix.
_CUTS = ((1024, 16), (256, 4), (64, 2))

# Pause between two lines of a library about clients (s).
_PAUSE = 1.0


def configure_log(level: str, style: str, **always: object) -> None:
    """Set up structlog for this process; `style` is `json`, `console`, or `auto` for console on a terminal.

    The fields in `always` are added to every line. Writing a line never blocks or fails if
    `standard_streams.never_block` was called before.
    """
    # Tracebacks leave out local variables: they contain users' data.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    for_terminal = style == "console" or (style == "auto" and sys.stderr.isatty())

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
        if for_terminal
        else [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(_dumps_short, ensure_ascii=False),
        ]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _ForwardToStructlog) for handler in root.handlers):
        root.addHandler(_ForwardToStructlog(logging.WARNING))


def log_uncaught() -> None:
    """Log uncaught exceptions and warnings, which Python would write to standard error in its own format."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught_exception
    threading.excepthook = _log_thread_exception
    sys.unraisablehook = _log_unraisable


def _dumps_short(line: Mapping[str, Any], **options: Any) -> str:  # noqa: ANN401 - of json.dumps
    """Render a line as JSON, shortened to what a pipe accepts in one write."""
    rendered = json.dumps(line, **options)
    if len(rendered) <= _CUTS[0][0]:
        return rendered
    for max_characters, max_items in _CUTS:
        rendered = json.dumps(_cut(json.loads(rendered), max_characters, max_items), **options)
        if len(rendered.encode(errors="backslashreplace")) < select.PIPE_BUF:
            break
    return rendered


def _cut(value: Any, max_characters: int, max_items: int) -> Any:  # noqa: ANN401 - anything of JSON
    """Return a JSON value with long texts cut and only the last items of lists, such as the frames of a traceback."""
    match value:
        case str() if len(value) > max_characters:
            return f"{value[:max_characters]}… ({len(value)} characters)"
        case dict():
            return {key: _cut(each, max_characters, max_items) for key, each in value.items()}
        case list():
            return [_cut(each, max_characters, max_items) for each in value[-max_items:]]
        case _:
            return value


class _ForwardToStructlog(logging.Handler):
    """Forwards warnings and errors that libraries (uvicorn, asyncio, grpc) log through the standard library.

    What they log about clients, such as connections that were lost and requests that are malformed, is no error of
    ours, and a client can cause any number of it: a line without traceback, at most one per logger and second. gRPC
    formats the values of headers into its messages, which may be tokens: only its format string is logged.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._last: dict[str, float] = {}
        self._skipped: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        is_grpc = record.name.partition(".")[0] == "grpc"
        message = str(record.msg) if is_grpc else record.getMessage().strip()
        error = record.exc_info[1] if record.exc_info else None
        if not (_is_about_clients(error) or (is_grpc and error is None)):
            log.log(record.levelno, message, logger=record.name, exc_info=record.exc_info or None)
        elif (skipped := self._skipped_until_now(record.name)) is not None:
            kind = type(error).__name__ if error else None
            log.warning(message.partition("\n")[0], logger=record.name, error=kind, skipped=skipped)

    def _skipped_until_now(self, name: str) -> int | None:
        """Return how many lines were skipped before this one, or None if it is to be skipped as well."""
        now = time.monotonic()
        if now < self._last.get(name, -_PAUSE) + _PAUSE:
            self._skipped[name] = self._skipped.get(name, 0) + 1
            return None
        self._last[name] = now
        return self._skipped.pop(name, 0)


def _is_about_clients(error: BaseException | None) -> bool:
    """True for errors of connections and of text that is no UTF-8, and for those of gRPC itself."""
    return isinstance(error, OSError | UnicodeError) or type(error).__module__.partition(".")[0] == "grpc"


def _log_uncaught_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    structlog.get_logger("python").critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_thread_exception(died: threading.ExceptHookArgs) -> None:
    name = died.thread.name if died.thread else None
    structlog.get_logger("thread").error("uncaught exception in a thread", thread=name, exc_info=died.exc_value)


def _log_unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    message = ignored.err_msg or "an exception was ignored"
    structlog.get_logger("python").error(message, where=repr(ignored.object), exc_info=ignored.exc_value)

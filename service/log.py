"""Logging: one event per line on standard error. Standard output is for the announcements."""

import hashlib
import io
import json
import logging
import re
import select
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog

from service.call_record import current_batch, current_call

# Maximum characters of a text and items of a list in a line. The further pairs shorten lines that are still longer than
# a pipe accepts in one write (POSIX: PIPE_BUF): beyond that, the lines of several workers would mix.
_CUTS = ((1024, 16), (256, 4), (64, 2))
# A line of at most this many characters fits, however they are encoded.
_SHORT = select.PIPE_BUF // 6 - 1
# What is left of a line with too many fields.
_LEAST = ("timestamp", "level", "event", "worker", "request_id", "reason")

# Pause between two lines of a library about clients (s).
_PAUSE = 1.0

# The paragraphs of a message of PostgreSQL that quote rows.
_DETAIL = re.compile(r"\n(?:DETAIL|CONTEXT|LINE \d+):.*", re.DOTALL)
_DETAIL_LINE = re.compile(r"\n(?:DETAIL|CONTEXT|LINE \d+):.*")

# Characters that JSON does not escape, but where some programs break lines, and control characters of terminals.
_LINE_BREAKS = re.compile("[\x80-\x9f\u2028\u2029]")

# Most ids of a batch's calls in a line.
_MAX_IDS = 5

Line = structlog.typing.EventDict
UserIds = Literal["plain", "hashed", "none"]


class Level:
    """The level of the log, where looking it up must cost nothing."""

    is_debug = False


def configure_log(level: str, style: str, user_ids: UserIds = "plain", **always: object) -> None:
    """Set up structlog for this process; `style` is `json`, `console`, or `auto` for console on a terminal.

    The fields in `always` are added to every line. Writing a line never blocks or fails if
    `standard_streams.never_block` was called before.
    """

    def add_always(_logger: object, _method: str, line: Line) -> Line:
        return {**line, **always}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        *([add_always] if always else []),
        _add_call,
        *([_MASKS[user_ids]] if user_ids in _MASKS else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback)]
        if not writes_json(style)
        else [
            structlog.processors.ExceptionRenderer(_render_exception),
            structlog.processors.JSONRenderer(_dumps_short, ensure_ascii=False),
        ]
    )
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=structlog.WriteLoggerFactory(_stream()),
        cache_logger_on_first_use=False,  # so that `set_level` takes effect
    )
    set_level(level)
    root = logging.getLogger()
    if not any(isinstance(handler, _ForwardToStructlog) for handler in root.handlers):
        root.addHandler(_ForwardToStructlog(logging.WARNING))


def writes_json(style: str) -> bool:
    """True if the log of this style is JSON: `auto` is, except on a terminal."""
    return style == "json" or (style == "auto" and not sys.stderr.isatty())


def set_level(level: str) -> None:
    """Change the level of the log: `debug`, `info`, `warning` or `error`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(**{**structlog.get_config(), "wrapper_class": structlog.make_filtering_bound_logger(number)})
    Level.is_debug = number <= logging.DEBUG


def without_details(message: str) -> str:
    """Return a message of a driver without the paragraphs that quote rows, which are users' data."""
    return _DETAIL.sub("", message)


def _add_call(_logger: object, _method: str, line: Line) -> Line:
    """Name the call, or the calls of the batch, that the line is about."""
    if batch := current_batch.get():
        line.setdefault("request_ids", batch.request_ids[:_MAX_IDS])
    elif (call := current_call.get()) and "request_id" not in line:
        line["request_id"] = call.request_id
        if call.trace_id:
            line["trace_id"] = call.trace_id
    return line


def _hash_user_ids(_logger: object, _method: str, line: Line) -> Line:
    for fields in (line, *line.get("callers", ())):
        if user := fields.get("user"):
            fields["user"] = hashlib.blake2b(str(user).encode(), digest_size=8).hexdigest()
    return line


def _drop_user_ids(_logger: object, _method: str, line: Line) -> Line:
    for fields in (line, *line.get("callers", ())):
        fields.pop("user", None)
    return line


_MASKS: Mapping[str, structlog.typing.Processor] = {"hashed": _hash_user_ids, "none": _drop_user_ids}


def _render_exception(exc_info: structlog.typing.ExcInfo) -> list[dict[str, Any]]:
    """Describe an exception without local variables and without rows, which are users' data."""
    stacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)(exc_info)
    for stack in stacks:
        stack["exc_value"] = without_details(str(stack["exc_value"]))
    return stacks


def _write_traceback(stream: TextIO, given: structlog.typing.ExcInfo) -> None:
    """Write a traceback for a terminal; it leaves out what `_render_exception` does."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, given)
    stream.write(_DETAIL_LINE.sub("", text.getvalue()))


def log_uncaught(style: str) -> None:
    """Log uncaught exceptions and warnings, which Python would write to standard error in its own format.

    Where the log is JSON, whatever else is written to `sys.stderr` becomes lines of the log too.
    """
    if writes_json(style):
        sys.stderr = _StderrLines(_stream())
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught_exception
    threading.excepthook = _log_thread_exception
    sys.unraisablehook = _log_unraisable


def _dumps_short(line: Mapping[str, Any], **options: Any) -> str:  # noqa: ANN401 - of json.dumps
    """Render a line as JSON, shortened to what a pipe accepts in one write."""
    try:
        rendered = _dumps(line, allow_nan=False, **options)
    except (TypeError, ValueError, RecursionError):  # a key that is no text, a cycle, NaN: nothing may fail a call
        line = {str(key): value if isinstance(value, str | int) else repr(value) for key, value in line.items()}
        rendered = _dumps(line, **options)
    if len(rendered) <= _SHORT:
        return rendered
    for max_characters, max_items in _CUTS:
        rendered = _dumps(_cut(json.loads(rendered), max_characters, max_items), **options)
        if len(rendered.encode(errors="backslashreplace")) < select.PIPE_BUF:
            return rendered
    few = _dumps({key: line[key] for key in _LEAST if key in line}, **options)
    return _dumps(_cut(json.loads(few), *_CUTS[-1]), **options)


def _dumps(line: Mapping[str, Any], **options: Any) -> str:  # noqa: ANN401 - of json.dumps
    rendered = json.dumps(line, **options)
    return rendered if rendered.isascii() else _LINE_BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", rendered)


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


class _StderrLines(io.TextIOBase):
    """A text stream that logs each line, for what libraries print."""

    encoding = "utf-8"

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        """Where the log itself is written."""
        self._begun = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, lines):
            structlog.get_logger("stderr").warning(line.rstrip(), logger="stderr")
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def _stream() -> TextIO:
    """Return the stream of the log: standard error, and not what turns standard error into lines of the log."""
    return sys.stderr.stream if isinstance(sys.stderr, _StderrLines) else sys.stderr


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

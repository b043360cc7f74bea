"""How log lines look and where they go: standard error, and a log file if one is set.

Used by ``ecs-agent run`` and ``ecs-agent control``. There are three formats: coloured columns on a
terminal, logfmt in the journal (with its priority prefix), JSON elsewhere.
``ECS_LOG_OUTPUT_FORMAT`` overrides the choice. A line that cannot be written is dropped: logging
never stops the process.

Some logged values come from outside: host names, texts of control, engine errors. Values are cut to
``VALUE_LIMIT``. In formats other than JSON, control characters are shown as escapes, so that a
value can neither control a terminal nor forge a line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from agent import escapes
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import EventDict, Processor

    from agent.config import Settings

_LEVELS = {
    "crit": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
FILE_HANDLER = "ecs-agent log file"
VALUE_LIMIT = 4096
"""Maximum length of a logged value in characters."""
TRACEBACK_LIMIT = 32768
_LIMITS = {"exception": TRACEBACK_LIMIT, "stack": TRACEBACK_LIMIT}
_TRACEBACK_INDENT = "    "
_JOURNAL_PRIORITY = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}

Output = tuple["Processor", "Callable[[str], object]"]


def configure(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Set up logging of this process, before the first line and after each change of settings.

    If this raises, logging continues as before. Opening the log file blocks.

    Raises:
        ConfigError: the log file cannot be opened.
    """
    stream = stream or sys.stderr
    outputs = [(_renderer(settings.log_format, stream), _writer(stream))]
    file = None
    if settings.log_file is not None:
        file = open_file(settings, settings.log_file, "ECS_LOGFILE")
    if file is not None:
        outputs.append((_plain(settings.log_format or "logfmt"), file_writer(file)))
    level = _LEVELS[settings.log_level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _bounded,
            _hand_over,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Fan(outputs),
        # Loggers live as long as their modules; a cached logger would miss a reload.
        cache_logger_on_first_use=False,
    )
    _adopt_stdlib(level, file)


class _Fan:
    """Renders each line once per output and writes it."""

    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs

    def emit(self, event: EventDict) -> None:
        for render, write in self._outputs:
            with contextlib.suppress(OSError, ValueError):
                write(f"{render(None, '', dict(event))!s}\n")

    debug = info = warning = warn = error = critical = fatal = exception = log = msg = emit


class _FromStdlib(logging.Handler):
    """Sends the log lines of libraries to the same log; closes its file when it is replaced."""

    def __init__(self, file: logging.Handler | None) -> None:
        super().__init__()
        self._file = file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        logger.log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )


def _bounded(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Cut values that are too long; a long value that is not a string is converted to one."""
    return {key: _within(value, _LIMITS.get(key, VALUE_LIMIT)) for key, value in event.items()}


def _within(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return escapes.clipped(value, limit)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    # Short values keep their type, so that JSON can show their structure.
    return value if len(text) <= limit else escapes.clipped(text, limit)


def _shown(event: EventDict) -> EventDict:
    """Return the line with its values as strings and numbers, without control characters."""
    return {
        key: value
        if value is None or isinstance(value, bool | int | float)
        else escapes.shown(str(value))
        for key, value in event.items()
    }


def _hand_over(_logger: Any, _method: str, event: EventDict) -> tuple[tuple[EventDict], EventDict]:
    """Pass a line on without its empty values."""
    return ({key: value for key, value in event.items() if value is not None and value != ""},), {}


def _renderer(chosen: str, stream: TextIO) -> Processor:
    if chosen:
        return _plain(chosen)
    if stream.isatty():
        return _for_terminal()
    if is_journal(stream):
        return _for_journal
    return _plain("json")


def _for_terminal() -> Processor:
    """Return the renderer for a terminal: local time, no padding."""
    draw = structlog.dev.ConsoleRenderer(
        colors=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        timestamp_key="time",
        pad_level=False,
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )

    def render(logger: Any, method: str, event: EventDict) -> str:
        tracebacks = {k: _indented(str(event.pop(k))) for k in ("stack", "exception") if k in event}
        event = _shown(event)
        if "time" in event:
            event["time"] = f"{datetime.fromisoformat(event['time']).astimezone():%H:%M:%S}"
        return draw(logger, method, {**event, **tracebacks})

    return render


def _indented(traceback: str) -> str:
    """Return the traceback indented, so that no text in it can pass for a log line."""
    lines = escapes.shown(traceback, keep="\n\t").split("\n")
    return "\n".join(_TRACEBACK_INDENT + line for line in lines)


def _plain(chosen: str) -> Processor:
    return _json if chosen == "json" else _logfmt


_render_json = structlog.processors.JSONRenderer()
_render_logfmt = structlog.processors.LogfmtRenderer(
    key_order=["level", "time", "msg"], drop_missing=True, bool_as_flag=False
)


def _json(logger: Any, method: str, event: EventDict) -> Any:
    return _render_json(logger, method, _renamed(event))


def _logfmt(logger: Any, method: str, event: EventDict) -> str:
    return _render_logfmt(logger, method, _shown(_renamed(event)))


def _for_journal(logger: Any, method: str, event: EventDict) -> str:
    priority = _JOURNAL_PRIORITY.get(str(event.get("level")), 6)
    event.pop("time", None)
    return f"<{priority}>{_logfmt(logger, method, event)}"


def _renamed(event: EventDict) -> EventDict:
    """Rename the keys to those of the Amazon ECS agent's log: level, time, msg, then the rest."""
    head = {"level": event.pop("level", ""), "time": event.pop("time", "")}
    head = {key: value for key, value in head.items() if value}
    return {**head, "msg": event.pop("event", ""), **event}


def is_journal(stream: TextIO) -> bool:
    """Return whether the stream goes to the journal, as systemd says in ``JOURNAL_STREAM``."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def _writer(stream: TextIO) -> Callable[[str], object]:
    def write(line: str) -> None:
        stream.write(line)
        stream.flush()

    return write


def open_file(settings: Settings, path: Path, variable: str) -> logging.Handler:
    """Return what writes to a log file, with the rollover that the settings ask for. Blocks.

    Args:
        settings: how the file rolls over.
        path: the file; its directory is made.
        variable: the setting that names it, for the error text.

    Raises:
        ConfigError: it cannot be opened.
    """
    from logging import handlers  # noqa: PLC0415 - rarely needed, and it imports sockets

    kept = settings.log_max_roll_count
    handler: logging.Handler
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if settings.log_rollover == "hourly":
            handler = handlers.TimedRotatingFileHandler(path, when="H", backupCount=kept, utc=True)
        else:
            size = int(settings.log_max_file_size_mb * 1e6)
            limit = size if settings.log_rollover == "size" else 0
            handler = handlers.RotatingFileHandler(path, maxBytes=limit, backupCount=kept)
    except OSError as error:
        raise ConfigError(
            f"{variable}: cannot open {path} ({error.strerror}); choose another file"
        ) from None
    return handler


def file_writer(handler: logging.Handler) -> Callable[[str], object]:
    """Return what writes one line to a log file; a line that cannot be written is dropped."""
    logging.raiseExceptions = False  # a full disk must not flood standard error
    return lambda line: handler.handle(logging.makeLogRecord({"msg": line.rstrip("\n")}))


def _adopt_stdlib(level: int, file: logging.Handler | None) -> None:
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [_FromStdlib(file)]
    for handler in before:
        if isinstance(handler, _FromStdlib):
            handler.close()
    if file is not None:
        file.name = FILE_HANDLER  # after the previous handler has released the name
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)

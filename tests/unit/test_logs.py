from __future__ import annotations

import io
import json
import logging
import os
import warnings
from typing import TYPE_CHECKING

import psutil
import pytest
import structlog

from agent import escapes, logs
from agent.config import Settings
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _logged(stream: io.StringIO, **settings: object) -> str:
    logs.configure(Settings(**settings), stream=stream)  # type: ignore[arg-type]
    structlog.get_logger().info("task stopped", task="aa11", code=3)
    return stream.getvalue()


def test_lines_are_json_away_from_a_terminal() -> None:
    line = json.loads(_logged(io.StringIO()))
    assert list(line) == ["level", "time", "msg", "task", "code"]
    assert (line["level"], line["msg"], line["code"]) == ("info", "task stopped", 3)


def test_logfmt_has_the_keys_of_the_ecs_agent() -> None:
    text = _logged(io.StringIO(), log_format="logfmt")
    assert text.startswith("level=info time=")
    assert text.endswith('msg="task stopped" task=aa11 code=3\n')


def test_a_terminal_gets_colours_unless_it_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in _logged(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    text = _logged(Terminal())
    assert "\x1b[" not in text
    assert "task stopped" in text


def test_the_journal_gets_priorities_and_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.configure(Settings(), stream=stream)
        structlog.get_logger().warning("slow")
        stream.seek(0)
        assert stream.read() == "<4>level=warning msg=slow\n"


def test_what_is_below_the_level_is_not_logged() -> None:
    assert _logged(io.StringIO(), log_level="warn") == ""


def test_a_traceback_stays_on_one_line() -> None:
    stream = io.StringIO()
    logs.configure(Settings(log_format="logfmt"), stream=stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in stream.getvalue()


def test_lines_of_libraries_and_warnings_come_too() -> None:
    stream = io.StringIO()
    logs.configure(Settings(), stream=stream)
    logging.getLogger("aiohttp").error("bad %s", "thing")
    logging.getLogger("aiohttp").info("not interesting")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (first["msg"], first["logger"], first["level"]) == ("bad thing", "aiohttp", "error")
    assert "old" in second["msg"]


def test_a_file_gets_plain_lines_and_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "agent.log"
    settings = {"log_file": path, "log_max_file_size_mb": 0.0005, "log_max_roll_count": 2}
    _logged(Terminal(), **settings)
    for _ in range(30):
        structlog.get_logger().info("task stopped")
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["agent.log", "agent.log.1", "agent.log.2"]
    assert path.read_text().startswith("level=info time=")


@pytest.mark.parametrize("rollover", ["hourly", "none"])
def test_other_rollovers(tmp_path: Path, rollover: str) -> None:
    _logged(io.StringIO(), log_file=tmp_path / "a.log", log_rollover=rollover)
    assert "task stopped" in (tmp_path / "a.log").read_text()


def test_a_file_that_cannot_be_opened_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ECS_LOGFILE"):
        logs.configure(Settings(log_file=tmp_path), stream=io.StringIO())


def test_a_closed_stream_stops_nobody() -> None:
    stream = io.StringIO()
    logs.configure(Settings(), stream=stream)
    stream.close()
    structlog.get_logger().info("into the void")


def test_a_later_configuration_counts_for_loggers_that_are_in_use(tmp_path: Path) -> None:
    stream = io.StringIO()
    logger = structlog.get_logger()
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    logs.configure(Settings(log_level="warn", log_file=first), stream=stream)
    logger.info("too quiet")
    logger.warning("one")
    logs.configure(Settings(log_format="logfmt", log_file=second), stream=stream)
    logger.info("two")
    shown = stream.getvalue().splitlines()
    assert json.loads(shown[0])["msg"] == "one"
    assert shown[1].endswith("msg=two")
    assert len(first.read_text().splitlines()) == 1
    assert len(second.read_text().splitlines()) == 1
    still_open = {file.path for file in psutil.Process().open_files()}
    assert str(second) in still_open
    assert str(first) not in still_open


def test_a_configuration_that_fails_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(Settings(log_format="logfmt"), stream=stream)
    with pytest.raises(ConfigError):
        logs.configure(Settings(log_format="json", log_file=tmp_path), stream=io.StringIO())
    structlog.get_logger().info("still here")
    assert 'msg="still here"' in stream.getvalue()


FORGED = "web\n2026-01-01T00:00:00Z [error] forged\r\x1b[2J\x1b]0;owned\x07\u202e\u2028\x9b"


@pytest.mark.parametrize("stream", [Terminal, io.StringIO], ids=["terminal", "logfmt"])
@pytest.mark.parametrize(
    "value", [FORGED, [FORGED], {FORGED: 1}, ValueError(FORGED)], ids=lambda v: type(v).__name__
)
def test_no_value_forges_a_line_or_commands_a_terminal(
    stream: type[io.StringIO], value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = stream()
    logs.configure(Settings(log_format="" if stream is Terminal else "logfmt"), stream=out)
    structlog.get_logger().warning(FORGED, hostname=value)
    logging.getLogger("aiohttp").error("bad %s", FORGED)
    lines = out.getvalue().split("\n")
    assert len(lines) == 3
    assert escapes.is_plain("".join(lines))
    assert "\\x1b[2J" in lines[0].replace("\\\\", "\\")


def test_an_error_in_a_traceback_forges_no_line_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    logs.configure(Settings(), stream=out)
    try:
        raise ValueError(FORGED)
    except ValueError:
        structlog.get_logger().exception("failed")
    head, *rest = out.getvalue().rstrip("\n").split("\n")
    assert "failed" in head
    assert any("forged" in line for line in rest)
    assert all(line.startswith("    ") for line in rest)
    assert escapes.is_plain("".join(rest))


def test_json_keeps_what_was_said() -> None:
    out = io.StringIO()
    logs.configure(Settings(log_format="json"), stream=out)
    structlog.get_logger().warning("registered", hostname=FORGED, ports=[1, 2])
    line = json.loads(out.getvalue())
    assert (line["hostname"], line["ports"]) == (FORGED, [1, 2])
    assert out.getvalue().count("\n") == 1
    assert escapes.is_plain(out.getvalue().rstrip("\n"))


def test_a_line_has_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    logs.configure(Settings(log_format="logfmt"), stream=out)
    structlog.get_logger().warning("x" * 10**6, reason="y" * 10**6, tasks=["z" * 10**6])
    assert len(out.getvalue()) < 4 * logs.VALUE_LIMIT
    assert "more characters" in out.getvalue()

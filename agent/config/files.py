r"""``ecs.config`` files: ``KEY=VALUE`` lines with one documented way of quoting.

Reads one file; no other I/O. The rules ensure that a file that systemd and ecs-init read in the
same way means the same here:

- ``#`` and ``;`` begin a comment only at the start of a line. Empty lines are skipped.
- Blanks around the name and the value are dropped.
- A value that begins with ``{`` or ``[`` is JSON and is used as is, to the end of the line.
- A value may be in single or double quotes, which are dropped; there are no escapes inside them.
- If a name occurs twice, the last line wins, with a warning.
- A line that readers interpret differently (``export``, a backslash at the end of the line, text
  after a closing quote) is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1024 * 1024
ENVIRONMENT = "environment"
"""Origin of values from the process environment."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class GivenValue:
    """A value that was set, and where."""

    name: str
    value: str
    origin: str
    """``environment``, ``file:line`` or ``file:member``; begins every message about this value."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of one file."""

    values: dict[str, GivenValue]
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """One line per line of the file that cannot be read."""


def read(path: Path, *, required: bool) -> FileContent:
    """Read and parse one file.

    Args:
        path: the file.
        required: raise if the file is missing; otherwise a missing file counts as empty.

    Raises:
        ConfigError: the file cannot be read; the text says how to fix it.
    """
    text = text_of(path)
    if text is not None:
        return parse(text, name=str(path))
    if required:
        raise ConfigError(f"{path}: there is no such file; check the path")
    return FileContent(values={})


def text_of(path: Path) -> str | None:
    """Return the text of a settings file; None if there is no file.

    Raises:
        ConfigError: the file cannot be read; the text says how to fix it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); fix the file") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"{path}: is larger than 1 MiB, too large for a settings file; check the path"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def parse(text: str, *, name: str) -> FileContent:
    """Parse the text of a file; messages call the file ``name``. Pure."""
    values: dict[str, GivenValue] = {}
    warnings: list[str] = []
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        origin = f"{name}:{number}"
        try:
            pair = _parse_line(line)
        except ValueError as error:
            problems.append(f"{origin}: {error}")
            continue
        if pair is None:
            continue
        key, value, warning = pair
        if warning:
            warnings.append(f"{origin}: {key} {warning}")
        if key in values:
            warnings.append(
                f"{origin}: {key} is already set at {values[key].origin}; the last one wins"
            )
        values[key] = GivenValue(name=key, value=value, origin=origin)
    return FileContent(values=values, warnings=tuple(warnings), problems=tuple(problems))


def _parse_line(line: str) -> tuple[str, str, str] | None:
    """Return name, value and warning of one line; None for an empty line or a comment."""
    line = line.strip()
    if not line or line[0] in "#;":
        return None
    name, equals, rest = line.partition("=")
    name = name.strip()
    if not equals:
        raise ValueError(f"no = in {_clipped(name)}; write NAME=value")
    if name.startswith("export "):
        raise ValueError("this file is not a shell script; remove the word export")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{_clipped(name)} is not a variable name; use letters, digits and _")
    if "\0" in rest:
        raise ValueError(f"{name} contains a NUL character; remove it")
    value, warning = _unquote(name, rest.strip())
    return name, value, warning


def _unquote(name: str, value: str) -> tuple[str, str]:
    if not value or value[0] in "{[":
        return value, ""
    if value[0] in "'\"":
        return _quoted(name, value)
    if value.endswith("\\"):
        raise ValueError(f"{name} ends with a backslash; write the whole value on one line")
    if re.search(r"\s[#;]", value):
        return value, "contains a # or ; that is part of the value; put comments on their own line"
    return value, ""


def _quoted(name: str, value: str) -> tuple[str, str]:
    quote = value[0]
    if len(value) == 1 or value[-1] != quote:
        rest = value[1:].partition(quote)
        if rest[1]:
            raise ValueError(f"{name} has text after its closing quote; remove that text")
        raise ValueError(f"{name} has no closing quote; end the value with {quote}")
    inner = value[1:-1]
    if quote == '"' and "\\" in inner:
        warning = "contains a backslash in double quotes, which is used as is"
        return inner, f"{warning}; use single quotes to make that clear"
    return inner, ""


def _clipped(text: str) -> str:
    """Return the beginning of a line, quoted; the rest could be a secret pasted by mistake."""
    return f'"{text[:16]}..."' if len(text) > 16 else f'"{text}"'

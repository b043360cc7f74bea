r"""``ecs.config`` files: ``KEY=VALUE`` lines with one documented way of quoting.

Reads one file; no other I/O. The rules, chosen so that a file which systemd and ecs-init agree on
means the same here:

- ``#`` and ``;`` begin a comment at the start of a line only. Blank lines are skipped.
- Blanks around the name and the value are dropped.
- A value beginning with ``{`` or ``[`` is JSON and taken as it stands, to the end of the line.
- A value may stand in single or double quotes, which are dropped; nothing is escaped inside them.
- The last of two lines with one name wins, with a warning.
- A line that means different things to different readers (``export``, a backslash at the end of
  the line, text after a closing quote) is refused.
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
"""Origin of what the process environment gives."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Given:
    """A value somebody gave, and where."""

    name: str
    value: str
    origin: str
    """``environment``, ``file:line`` or ``file:member``; begins every message about this value."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """What one file says."""

    values: dict[str, Given]
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """One line per line of the file that cannot be read."""


def read(path: Path, *, required: bool) -> FileContent:
    """Read and parse one file.

    Args:
        path: the file.
        required: raise when the file is missing; otherwise a missing file is an empty one.

    Raises:
        ConfigError: the file cannot be read; the text names the mend.
    """
    text = text_of(path)
    if text is not None:
        return parse(text, name=str(path))
    if required:
        raise ConfigError(f"{path}: there is no such file; check the path")
    return FileContent(values={})


def text_of(path: Path) -> str | None:
    """Return the text of a settings file; None where there is none.

    Raises:
        ConfigError: the file cannot be read; the text names the mend.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); mend the file") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than 1 MiB; this is no settings file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def parse(text: str, *, name: str) -> FileContent:
    """Parse the text of a file; ``name`` is how messages call it. Pure."""
    values: dict[str, Given] = {}
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
                f"{origin}: {key} was set before at {values[key].origin}; the last wins"
            )
        values[key] = Given(name=key, value=value, origin=origin)
    return FileContent(values=values, warnings=tuple(warnings), problems=tuple(problems))


def _parse_line(line: str) -> tuple[str, str, str] | None:
    """Return name, value and warning of one line; None for a blank line or a comment."""
    line = line.strip()
    if not line or line[0] in "#;":
        return None
    name, equals, rest = line.partition("=")
    name = name.strip()
    if not equals:
        raise ValueError(f"no = in {_clipped(name)}; write NAME=value")
    if name.startswith("export "):
        raise ValueError("this is no shell script; remove the word export")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{_clipped(name)} is not a variable name; use letters, digits and _")
    if "\0" in rest:
        raise ValueError(f"{name} holds a NUL character; remove it")
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
        return value, "holds a # or ; which is part of the value; put comments on their own line"
    return value, ""


def _quoted(name: str, value: str) -> tuple[str, str]:
    quote = value[0]
    if len(value) == 1 or value[-1] != quote:
        rest = value[1:].partition(quote)
        if rest[1]:
            raise ValueError(f"{name} goes on after its closing quote; remove what follows")
        raise ValueError(f"{name} has no closing quote; end the value with {quote}")
    inner = value[1:-1]
    if quote == '"' and "\\" in inner:
        warning = "holds a backslash in double quotes, which is taken as it stands"
        return inner, f"{warning}; use single quotes to be clear"
    return inner, ""


def _clipped(text: str) -> str:
    """Return the beginning of a line, quoted; the rest may be a secret pasted by accident."""
    return f'"{text[:16]}..."' if len(text) > 16 else f'"{text}"'

"""Changes settings in the text of an ``ecs.config``, line by line; all other lines stay unchanged.

Pure except for ``replace_file``, which replaces a file atomically.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import secrets
from typing import TYPE_CHECKING

from agent.config import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def edited(text: str, values: Mapping[str, str | None]) -> str:
    """Return the text with these settings; a name with None is removed.

    A setting that exists stays on its line. A new one goes below its commented-out line if there is
    one, else to the end. Idempotent.

    Raises:
        ValueError: a value cannot be written on one line.
    """
    lines = text.split("\n")
    names = [_name_of(line) for line in lines]
    for name, value in values.items():
        places = [at for at, of in enumerate(names) if of == name]
        if value is None:
            _cut(lines, names, places)
            continue
        line = f"{name}={written(value)}"
        if places:
            *earlier, last = places
            if _value_of(lines[last]) != value:
                lines[last] = line + ("\r" if lines[last].endswith("\r") else "")
            _cut(lines, names, earlier)
        else:
            at = _place_for(name, lines, names)
            lines.insert(at, line + ("\r" if at and lines[at - 1].endswith("\r") else ""))
            names.insert(at, name)
    return "\n".join(lines)


def written(value: str) -> str:
    """Return a value as the right side of a line, quoted if it would be parsed differently.

    Raises:
        ValueError: it contains a line break or a NUL character.
    """
    if "\n" in value or "\0" in value:
        raise ValueError("a value must fit on one line")
    plain = files.parse(f"X={value}", name="")
    if not plain.problems and not plain.warnings and plain.values["X"].value == value:
        return value
    return f"'{value}'"


def difference(old: str, new: str, name: str) -> str:
    """Return only the changed lines, as a diff: other lines may contain secrets."""
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), name, f"{name} (new)", n=0, lineterm=""
    )
    return "\n".join(lines)


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Replace a file atomically, also if the host crashes meanwhile. Blocks.

    An existing file keeps its owner and group. A missing directory is created.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    path = path.resolve()  # write to the target of a symbolic link
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            with contextlib.suppress(FileNotFoundError):
                was = path.stat()
                os.fchown(out.fileno(), was.st_uid, was.st_gid)
            os.fchmod(out.fileno(), mode)
            out.flush()
            os.fsync(out.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _name_of(line: str) -> str:
    """Return the name that a line sets, even if its value is invalid; empty if it sets none."""
    stripped = line.strip()
    if not stripped or stripped[0] in "#;":
        return ""
    return stripped.partition("=")[0].strip() if "=" in stripped else ""


def _value_of(line: str) -> str | None:
    given = files.parse(line, name="").values
    return next((value.value for value in given.values()), None)


def _place_for(name: str, lines: list[str], names: list[str]) -> int:
    """Return the line number for a new setting: below its commented-out line, else at the end."""
    commented = re.compile(rf"\s*[#;]\s*{re.escape(name)}\s*=")
    for at in reversed(range(len(lines))):
        if commented.match(lines[at]):
            return at + 1
    if not lines or lines[-1].strip():
        lines.append("")
        names.append("")
    return len(lines) - 1


def _cut(lines: list[str], names: list[str], places: list[int]) -> None:
    for at in reversed(places):
        del lines[at], names[at]

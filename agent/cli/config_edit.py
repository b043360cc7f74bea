"""Changes settings in the text of an ``ecs.config``, line by line, and leaves all other lines alone.

Pure, but for ``replace_file``, which writes a file whole or not at all.
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
    """Return the text with these settings; a name with None is taken out.

    A setting keeps its line. One that is new goes below its commented-out line where there is one,
    else to the end. The same values again change nothing.

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
    """Return a value as the right side of a line, quoted where it would be read differently.

    Raises:
        ValueError: it holds a line break or a NUL character.
    """
    if "\n" in value or "\0" in value:
        raise ValueError("a value must stand on one line")
    plain = files.parse(f"X={value}", name="")
    if not plain.problems and not plain.warnings and plain.values["X"].value == value:
        return value
    return f"'{value}'"


def difference(old: str, new: str, name: str) -> str:
    """Return the changed lines alone, as diff shows them: the others may hold secrets."""
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), name, f"{name} (new)", n=0, lineterm=""
    )
    return "\n".join(lines)


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file so that it is whole at every moment, a crash of the host included. Blocks.

    A file that exists keeps its owner and group. Its directory is made when it is missing.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    path = path.resolve()  # a link stays one
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
    """Return the name that a line sets, empty for none; also of a line whose value is refused."""
    stripped = line.strip()
    if not stripped or stripped[0] in "#;":
        return ""
    return stripped.partition("=")[0].strip() if "=" in stripped else ""


def _value_of(line: str) -> str | None:
    given = files.parse(line, name="").values
    return next((value.value for value in given.values()), None)


def _place_for(name: str, lines: list[str], names: list[str]) -> int:
    """Return where a new setting goes: below its commented-out line, else before the last break."""
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

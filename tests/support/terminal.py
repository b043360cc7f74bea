"""A terminal of a given width: runs the real command in it and keeps what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = Path(sys.executable).with_name("ecs-agent")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Shown(NamedTuple):
    """What a command put on the terminal."""

    code: int
    raw: str
    """As it came, standard error among it."""

    @property
    def lines(self) -> list[str]:
        """Its lines, without colours."""
        return _COLOUR.sub("", self.raw).splitlines()


def shown(
    columns: int, *words: str, environ: Mapping[str, str] | None = None, limit_s: float = 30.0
) -> Shown:
    """Run ``ecs-agent WORDS`` on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    keep = {name: value for name, value in os.environ.items() if name not in _OF_TERMINALS}
    process = subprocess.Popen(
        [str(COMMAND), *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**keep, "TERM": "xterm-256color", **(environ or {})},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        parts = []
        while part := _read(ours):
            parts.append(part)
        code = process.wait(limit_s)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return Shown(code, b"".join(parts).decode().replace("\r\n", "\n"))


_OF_TERMINALS = {"COLUMNS", "LINES", "NO_COLOR", "TERM"}


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # Linux says so at the end
        return b""

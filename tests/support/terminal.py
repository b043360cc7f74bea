"""A terminal of a given width: runs the real command in it and keeps what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
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


class Dialogue:
    """A command on a terminal that a test types into. Use it in a ``with``."""

    def __init__(self, *words: str, environ: Mapping[str, str] | None = None) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(24, 80)
        keep = {name: value for name, value in os.environ.items() if name not in _OF_TERMINALS}
        self.before = termios.tcgetattr(theirs)
        """Settings of the terminal when the command began."""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", str(COMMAND), *words],  # the same process, on its own terminal
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**keep, "TERM": "xterm-256color", **(environ or {})},
        )
        self._theirs = theirs
        self.seen = ""

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    @property
    def settings(self) -> list[object]:
        """The current settings of the terminal."""
        return termios.tcgetattr(self._theirs)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size; the kernel tells the command."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._ours, text.encode())

    def wait_for(self, text: str, *, limit_s: float = 60.0) -> str:
        """Return what was shown up to and with a text that was not seen yet."""
        deadline = time.monotonic() + limit_s
        while text not in self.seen:
            left_s = deadline - time.monotonic()
            readable, _, _ = select.select([self._ours], [], [], max(left_s, 0))
            assert readable, f"not shown within {limit_s} s: {text!r}; shown {self.seen!r}"
            self.seen += os.read(self._ours, 65536).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def code(self, *, limit_s: float = 60.0) -> int:
        """Return the exit code of the command, which must end now."""
        return self.process.wait(limit_s)

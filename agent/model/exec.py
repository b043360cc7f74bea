"""Messages of a command that an operator runs in a container, over a WebSocket.

The client first sends ``ExecRequest``, then input as binary messages, ``Resize`` and ``EndOfInput``. The
agent sends output as binary messages, each beginning with one byte that tells the stream (``STDOUT``
or ``STDERR``), and at the end ``ExecExited`` or ``ExecFailed``.

The WebSocket is one of the operator socket, or one that the agent opened to control, because control has
a client for it. On the latter, a client has at most ``INPUT_WINDOW_BYTES`` of input under way: the agent says
by ``InputTaken`` how much the command has read.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

STDOUT: Final = 1
STDERR: Final = 2
"""As in the engine's own stream. A command with a terminal writes everything to ``STDOUT``."""

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""Exit codes of a command that could not be started, as in shells."""

MESSAGE_LIMIT_BYTES: Final = 1024 * 1024
"""Longest message of a client; a command line may be long."""

INPUT_WINDOW_BYTES: Final = 64 * 1024
"""Input that a command has not read yet, on a WebSocket by way of control."""


class TerminalSize(Struct, frozen=True, kw_only=True):
    """Size of a terminal in characters."""

    rows: int
    columns: int


class ExecCommand(Struct, frozen=True, kw_only=True, rename="camel"):
    """A command to run in a container."""

    words: list[str]
    """The program and its arguments; no shell is involved."""
    user: str = ""
    """``user``, ``user:group``, ``uid`` or ``uid:gid``; empty for the user of the container."""
    workdir: str = ""
    """Empty for the working directory of the container."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to the environment of the container."""
    terminal: TerminalSize | None = None
    """The terminal that the command gets; None for none."""


class ExecRequest(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="exec"):
    """First message of a client."""

    command: ExecCommand
    container: str = ""
    """Empty for the only container of the task."""


class Resize(Struct, frozen=True, kw_only=True, tag_field="type", tag="resize"):
    """The terminal of the client has another size now."""

    size: TerminalSize


class EndOfInput(Struct, frozen=True, kw_only=True, tag_field="type", tag="endOfInput"):
    """The client has no more input."""


class ExecExited(Struct, frozen=True, kw_only=True, tag_field="type", tag="exited"):
    """The command has ended."""

    code: int
    """Exit code; 128 and the number of the signal if a signal ended it."""


class ExecFailed(Struct, frozen=True, kw_only=True, tag_field="type", tag="failed"):
    """The command could not be started."""

    message: str
    code: int = 1
    """Exit code for the client."""


class InputTaken(Struct, frozen=True, kw_only=True, tag_field="type", tag="inputTaken"):
    """The command has read more of its input."""

    size_bytes: int


ClientMessage = Resize | EndOfInput
AgentMessage = ExecExited | ExecFailed
ChannelMessage = ExecExited | ExecFailed | InputTaken
"""What an agent sends by way of control."""

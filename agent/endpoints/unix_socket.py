"""A Unix socket that only its owner may use, taken over from a dead process but not from a live one.

Touches the socket's path and the directory around it. Blocks shortly, so it belongs in a thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING

from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_PROBE_LIMIT_S = 1.0


def claim(path: Path) -> socket.socket:
    """Bind a socket at ``path``, mode 0600; it does not listen yet.

    The directory is made with mode 0700 if it is absent, and left as it is otherwise. The socket
    gets its mode before it listens, so that nobody else can connect at any moment.

    Raises:
        ConfigError: another process answers on the path, something else lies there, or the
            directory cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        text = f"ECS_AGENT_SOCKET: {path} cannot be made ({error.strerror}); name another path"
        raise ConfigError(text) from None
    listener.setblocking(False)
    return listener


def identity(path: Path) -> tuple[int, int]:
    """Return what tells this file from a later one of the same name; zeros if it is gone."""
    try:
        status = path.lstat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def release(path: Path, made: tuple[int, int]) -> None:
    """Remove the socket unless somebody else has put another one there."""
    if made == identity(path):
        with contextlib.suppress(OSError):
            path.unlink()


def _clear(path: Path) -> None:
    """Remove the socket of a process that is gone."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        text = f"ECS_AGENT_SOCKET: {path} is there and is no socket; move it, or name another path"
        raise ConfigError(text)
    if _is_alive(path):
        text = (
            f"ECS_AGENT_SOCKET: another agent answers on {path}; stop it"
            " (`systemctl stop ecs-agent`), or name another path"
        )
        raise ConfigError(text)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _is_alive(path: Path) -> bool:
    """Tell whether somebody listens; one that is too busy to answer does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_LIMIT_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True
        return True

"""A Unix socket for its owner only; taken over from a dead process, but never from a live one.

Uses the socket's path and its directory. Blocks briefly, so call it in a thread.
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

    A missing directory is created with mode 0700; an existing one is not changed. The socket gets
    its mode before it listens, so that no other user can ever connect.

    Raises:
        ConfigError: another process answers on the path, the path is not a socket, or the directory
            cannot be written.
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
        text = f"ECS_AGENT_SOCKET: cannot create {path} ({error.strerror}); choose another path"
        raise ConfigError(text) from None
    listener.setblocking(False)
    return listener


def identity(path: Path) -> tuple[int, int]:
    """Return what identifies this file among later ones of the same name; zeros if it is gone."""
    try:
        status = path.lstat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def release(path: Path, made: tuple[int, int]) -> None:
    """Remove the socket unless another process has replaced it."""
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
        text = (
            f"ECS_AGENT_SOCKET: {path} exists and is not a socket; move it, or choose another path"
        )
        raise ConfigError(text)
    if _is_alive(path):
        text = (
            f"ECS_AGENT_SOCKET: another agent answers on {path}; stop it"
            " (`systemctl stop ecs-agent`), or choose another path"
        )
        raise ConfigError(text)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _is_alive(path: Path) -> bool:
    """Tell whether a process listens on the socket, even if it is too busy to answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_LIMIT_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True
        return True

"""``ecs-agent healthcheck``: exit code 0 if the agent answers, else 1 and one line that says why.

For ``HEALTHCHECK`` of images and for monitoring, which run it again and again: it imports next to nothing,
and reads the settings' files only if the agent does not answer where it usually does. Asks the introspection
endpoint (``HEAD /v1/metadata``) as Amazon's agent does; where that is turned off, the operators' socket.

Source of limit and variable: Amazon ECS agent 1.105.1, ``agent --healthcheck``.
Tests: ``tests/unit/cli/test_healthcheck.py``.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT_S = 25.0
"""From the beginning to the answer."""
_PORT = 51678
_SOCKET = "/run/ecs-agent/agent.sock"
_ANSWER_BYTES = 4096


def main(arguments: Sequence[str]) -> int:
    """Ask the agent; return the exit code."""
    if arguments:
        from agent.cli import app  # noqa: PLC0415 - only help and errors may load click

        return app.main(["healthcheck", *arguments])
    trouble = check(os.environ)
    if trouble:
        from agent import escapes  # noqa: PLC0415 - not needed where all is well

        sys.stderr.write(f"ecs-agent: {escapes.shown(trouble)}\n")
    return 1 if trouble else 0


def check(environ: Mapping[str, str], *, limit_s: float = LIMIT_S) -> str:
    """Return why the agent counts as unhealthy; empty if it answers."""
    deadline = time.monotonic() + limit_s
    host = environ.get("ECS_AGENT_HEALTHCHECK_HOST") or "localhost"
    given = environ.get("ECS_INTROSPECTION_PORT", "")
    port = int(given) if given.isdecimal() and len(given) < 6 else _PORT
    trouble = _ask_port(host, port, deadline) if port else ""
    if port and (given or not trouble):
        return trouble
    if port:  # a file may name another port, or turn it off
        port = _port_of_files(environ)
        if port == _PORT:
            return trouble
        if port:
            return _ask_port(host, port, deadline)
    return _ask_socket(environ.get("ECS_AGENT_SOCKET") or _SOCKET, deadline)


def _port_of_files(environ: Mapping[str, str]) -> int:
    from agent.config import load  # noqa: PLC0415 - not while the agent is well
    from agent.errors import ConfigError  # noqa: PLC0415 - as above

    try:
        return load(environ).introspection_port
    except ConfigError:
        return _PORT


def _ask_port(host: str, port: int, deadline: float) -> str:
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), _left_s(deadline)) as connection:
            return _ask(connection, "HEAD", "/v1/metadata", host, where, deadline)
    except OSError as error:
        return _worded(where, error)


def _ask_socket(path: str, deadline: float) -> str:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_left_s(deadline))
            connection.connect(path)
            return _ask(connection, "GET", "/v1/agent", "localhost", path, deadline)
    except OSError as error:
        return _worded(path, error)


def _ask(
    connection: socket.socket, method: str, path: str, host: str, where: str, deadline: float
) -> str:
    """Send a request; return what is wrong with the answer's first line, empty if nothing is."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode(errors="replace"))
    answer = b""
    while b"\n" not in answer and len(answer) < _ANSWER_BYTES:
        connection.settimeout(_left_s(deadline))
        chunk = connection.recv(_ANSWER_BYTES)
        if not chunk:
            break
        answer += chunk
    words = answer.split(b"\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        return f"the process that listens on {where} is not ecs-agent; see 'ecs-agent status'"
    if words[1] != b"200":
        return f"{where} answered {words[1].decode('ascii', 'replace')}; see 'ecs-agent status'"
    return ""


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _worded(where: str, error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"the agent did not answer on {where} within {LIMIT_S:g} s; look at its log"
    why = error.strerror or error
    return f"the agent does not answer on {where} ({why}); see 'ecs-agent status'"

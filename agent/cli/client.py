"""Talks to a running agent over its Unix socket, and words what can go wrong for a person.

Blocking and without threads: one command, one connection. Raises ``CliError``, whose text names the
mend; its exit code is the command's.
"""

from __future__ import annotations

import http.client
import os
import socket
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from agent.errors import AgentError, ExitCode
from agent.model.views import AgentView, Problem, TaskView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ANSWER_LIMIT_S = 30.0
_View = TypeVar("_View")


class CliError(AgentError):
    """A command failed; the text is for a person and names the mend."""

    def __init__(self, text: str, *, exit_code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class AgentNotRunning(CliError):
    """Nobody listens on the socket."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class AgentClient:
    """Calls of the operator socket, one method each."""

    def __init__(self, socket_path: str, *, limit_s: float = ANSWER_LIMIT_S) -> None:
        self._path = socket_path
        self._limit_s = limit_s

    def agent(self) -> AgentView:
        """Return the agent as it stands."""
        return self._decoded("/v1/agent", AgentView)

    def tasks(self) -> list[TaskView]:
        """Return every task of the agent."""
        return self._decoded("/v1/tasks", list[TaskView])

    def task(self, task: str) -> TaskView:
        """Return one task, given by its ARN, its id or the beginning of that."""
        return self._decoded(_task_path(task), TaskView)

    def stop(self, task: str, *, reason: str) -> None:
        """Ask the agent to stop a task; returns when the order is durable."""
        body = msgspec.json.encode({"reason": reason})
        self._open("POST", f"{_task_path(task)}/stop", body=body).read()

    def logs(self, task: str, *, container: str, tail: int, follow: bool) -> Iterator[bytes]:
        """Yield a container's output as it comes; with ``follow`` until the container stops."""
        query = {"tail": str(tail)} if tail >= 0 else {}
        query |= {"container": container} if container else {}
        query |= {"follow": "true"} if follow else {}
        path = f"{_task_path(task)}/logs"
        response = self._open("GET", path, query=query, limit_s=None if follow else self._limit_s)
        try:
            while chunk := response.read1(65536):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise CliError(f"the agent cut the log off ({error}); ask again") from None

    def _decoded(self, path: str, kind: type[_View]) -> _View:
        body = self._open("GET", path).read()
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise CliError(
                f"the agent gave an answer that this command cannot read ({error}); "
                "use the ecs-agent of the version that runs"
            ) from None

    def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit_s: float | None = ANSWER_LIMIT_S,
    ) -> http.client.HTTPResponse:
        connection = _UnixConnection(self._path, timeout_s=min(self._limit_s, ANSWER_LIMIT_S))
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            connection.request(method, _with(path, query), body=body, headers=headers)
            response = connection.getresponse()
            if connection.sock is not None:
                connection.sock.settimeout(limit_s)
            if response.status >= 400:
                raise CliError(_problem(response))
        except OSError as error:
            raise self._worded(error) from None
        except http.client.HTTPException as error:
            raise CliError(
                f"{self._path} does not speak the agent's language ({error!r})"
            ) from None
        return response

    def _worded(self, error: OSError) -> CliError:
        if isinstance(error, PermissionError):
            who = "" if os.geteuid() == 0 else "; use sudo"
            return CliError(f"only root may talk to the agent on {self._path}{who}")
        if isinstance(error, TimeoutError):
            return CliError(
                f"the agent did not answer within {self._limit_s:g} s; "
                "it may be very busy: try again, and look at its log"
            )
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return AgentNotRunning(
                f"the agent is not running (nobody listens on {self._path}); start it with "
                "'systemctl start ecs-agent' or 'ecs-agent standalone', or name its socket "
                "with --socket"
            )
        return CliError(f"cannot talk to the agent on {self._path} ({error}); look at its log")


def _task_path(task: str) -> str:
    return f"/v1/tasks/{quote(task.rsplit('/', 1)[-1], safe='')}"


def _with(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _problem(response: http.client.HTTPResponse) -> str:
    body: Any = response.read()
    try:
        return msgspec.json.decode(body, type=Problem).message
    except (msgspec.DecodeError, msgspec.ValidationError):
        return f"the agent answered {response.status} {response.reason}; look at its log"

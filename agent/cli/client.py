"""Talks to a running agent over its Unix socket, and words what can go wrong for a person.

Blocking and without threads: one command, one connection. Raises ``CliError``, whose text names the
mend; its exit code is the command's.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from agent.errors import AgentError, ExitCode
from agent.model.views import AgentView, Problem, TaskView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ANSWER_LIMIT_S = 30.0
SOCKET_PATH_BYTES = 107
"""The longest path that the kernel takes for a socket."""
_View = TypeVar("_View")


class CliError(AgentError):
    """A command failed; the text is for a person and names the mend."""

    def __init__(self, text: str, *, exit_code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class AgentNotRunning(CliError):
    """Nobody listens on the socket."""


class NotAllowed(CliError):
    """Another user than this one may talk to the agent."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self.wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def connect(self) -> None:
        self.wire.settimeout(self.timeout)
        self.wire.connect(self._path)
        self.sock = self.wire


class AgentClient:
    """Calls of the operator socket, one method each."""

    def __init__(self, socket_path: str, *, limit_s: float = ANSWER_LIMIT_S) -> None:
        self._path = socket_path
        self._limit_s = limit_s

    def within(self, limit_s: float) -> AgentClient:
        """Return a client of the same agent that waits no longer than this."""
        return AgentClient(self._path, limit_s=limit_s)

    def agent(self) -> AgentView:
        """Return the agent as it stands."""
        return self._decoded("/v1/agent", AgentView)

    def tasks(self) -> list[TaskView]:
        """Return every task of the agent."""
        return self._decoded("/v1/tasks", list[TaskView])

    def task(self, task: str) -> TaskView:
        """Return one task: by ARN, id, the beginning of one, or a name that fits it alone."""
        return self._decoded(_task_path(task), TaskView)

    def stop(self, task: str, *, reason: str) -> None:
        """Ask the agent to stop a task; returns when the order is durable."""
        body = msgspec.json.encode({"reason": reason})
        with self._exchange("POST", f"{_task_path(task)}/stop", body=body) as response:
            response.read()

    def logs(self, task: str, *, container: str, tail: int | None, follow: bool) -> Iterator[bytes]:
        """Yield a container's output as it comes; with ``follow`` until the container stops."""
        query = {} if tail is None else {"tail": str(tail)}
        query |= {"container": container} if container else {}
        query |= {"follow": "true"} if follow else {}
        path = f"{_task_path(task)}/logs"
        limit_s = None if follow else self._limit_s
        with self._exchange("GET", path, query=query, limit_s=limit_s) as response:
            while chunk := response.read1(65536):
                yield chunk

    def _decoded(self, path: str, kind: type[_View]) -> _View:
        with self._exchange("GET", path) as response:
            body = response.read()
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise CliError(
                f"the agent gave an answer that this command cannot read ({error}); "
                "use the ecs-agent of the version that runs"
            ) from None

    @contextlib.contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit_s: float | None = ANSWER_LIMIT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and lend its response; all that goes wrong meanwhile is a ``CliError``.

        ``limit_s`` is how long the agent may be silent within its answer; None: for ever.
        """
        connection = _UnixConnection(self._path, timeout_s=self._limit_s)
        headers = {"Content-Type": "application/json"} if body else {}
        with contextlib.closing(connection.wire), contextlib.closing(connection):
            try:
                with self._ask(connection, method, _with(path, query), body, headers) as response:
                    connection.wire.settimeout(limit_s)
                    if response.status >= 400:
                        raise CliError(_problem(response))
                    yield response
            except BrokenPipeError:
                raise  # our own output is gone, for example a pager was left
            except OSError as error:
                raise self._worded(error) from None
            except http.client.IncompleteRead:
                raise CliError("the agent broke its answer off; look at its log") from None
            except http.client.HTTPException as error:
                text = f"{self._path} does not speak the agent's language ({error!r})"
                raise CliError(text) from None

    def _ask(
        self,
        connection: _UnixConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        try:
            connection.request(method, path, body=body, headers=headers)
            return connection.getresponse()
        except OSError as error:
            raise self._worded(error) from None

    def _worded(self, error: OSError) -> CliError:
        if isinstance(error, PermissionError):
            who = "" if os.geteuid() == 0 else "; use sudo"
            return NotAllowed(f"only root may talk to the agent on {self._path}{who}")
        if isinstance(error, TimeoutError):
            return CliError(
                f"the agent did not answer within {self._limit_s:g} s; "
                "it may be very busy: try again, and look at its log"
            )
        if len(os.fsencode(self._path)) > SOCKET_PATH_BYTES:
            return CliError(
                f"the path of a socket has at most {SOCKET_PATH_BYTES} bytes, and {self._path[:40]}... "
                f"has {len(os.fsencode(self._path))}; give a shorter one"
            )
        if isinstance(error, ConnectionRefusedError) and not Path(self._path).is_socket():
            return CliError(f"{self._path} is no socket; name the agent's with --socket")
        if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
            return AgentNotRunning(
                f"the agent is not running (nobody listens on {self._path}); start it with "
                "'systemctl start ecs-agent' or 'ecs-agent standalone', or name its socket "
                "with --socket"
            )
        return CliError(f"cannot talk to the agent on {self._path} ({error}); look at its log")


def _task_path(task: str) -> str:
    name = task.strip().rstrip("/")
    if not name:
        text = "which task? give its id or the beginning of that, its family or a container's name"
        raise CliError(text, exit_code=ExitCode.USAGE)
    return f"/v1/tasks/{quote(name, safe='')}"


def _with(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _problem(response: http.client.HTTPResponse) -> str:
    body: Any = response.read()
    try:
        return msgspec.json.decode(body, type=Problem).message
    except (msgspec.DecodeError, msgspec.ValidationError):
        return f"the agent answered {response.status} {response.reason}; look at its log"

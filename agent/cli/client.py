"""Talks to a running agent over its Unix socket, and turns failures into readable errors.

Blocking and without threads: one command, one connection. Raises ``CliError``, whose text says how
to fix the problem; its exit code becomes the exit code of the command.
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

from agent.errors import BAD_JSON, AgentError, ExitCode
from agent.model.network_views import CheckOrder, NetworkCheckView, NetworkView, TraceView
from agent.model.views import AgentView, DrainOrder, Problem, TaskView, UsageView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ANSWER_LIMIT_S = 30.0
SOCKET_PATH_BYTES = 107
"""The longest path of a socket that the kernel accepts."""
_View = TypeVar("_View")


class CliError(AgentError):
    """A command failed; the text is for a person and says how to fix the problem."""

    def __init__(self, text: str, *, exit_code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class AgentNotRunning(CliError):
    """No process listens on the socket."""


class NotAllowed(CliError):
    """This user is not allowed to talk to the agent."""


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
        """Return a client of the same agent that waits at most this long for an answer."""
        return AgentClient(self._path, limit_s=limit_s)

    @property
    def socket_path(self) -> str:
        """Path of the agent's socket."""
        return self._path

    @staticmethod
    def exec_url(task: str) -> str:
        """Return the path of the call that runs a command in a container (``model.exec``)."""
        return f"{_task_path(task)}/exec"

    def agent(self) -> AgentView:
        """Return the current state of the agent."""
        return self._decoded("/v1/agent", AgentView)

    def tasks(self) -> list[TaskView]:
        """Return every task of the agent."""
        return self._decoded("/v1/tasks", list[TaskView])

    def task(self, task: str) -> TaskView:
        """Return one task: by ARN, id, beginning of an id, or a name that matches only this task."""
        return self._decoded(_task_path(task), TaskView)

    def network(self) -> NetworkView:
        """Return pools, sandboxes, devices and rules of task networks."""
        return self._decoded("/v1/network", NetworkView)

    def check_network(self, *, repair: bool) -> NetworkCheckView:
        """Compare what the agent has recorded with kernel and engine; mend it with ``repair``."""
        body = msgspec.json.encode(CheckOrder(repair=repair))
        with self._exchange("POST", "/v1/network/check", body=body) as response:
            return self._read(response.read(), NetworkCheckView)

    def trace(self, task: str, *, peer: str, port: int, protocol: str) -> TraceView:
        """Try a connection from a task, and return which rules of the host decide on it."""
        body = msgspec.json.encode({"peer": peer, "port": port, "protocol": protocol})
        with self._exchange("POST", f"{_task_path(task)}/trace", body=body) as response:
            return self._read(response.read(), TraceView)

    def usage(self, *, after: float | None, every_s: float) -> UsageView:
        """Wait for a round of samples other than ``after``, and return it with the tasks.

        Returns the same round after a while if there is no other one. ``every_s``: wait no longer for
        a round than this before the agent is to take one.
        """
        query = {"every": f"{every_s:g}"} | ({} if after is None else {"after": repr(after)})
        with self._exchange("GET", "/v1/usage", query=query) as response:
            return self._read(response.read(), UsageView)

    def stop(self, task: str, *, reason: str) -> None:
        """Ask the agent to stop a task; returns once the agent has stored the request."""
        body = msgspec.json.encode({"reason": reason})
        with self._exchange("POST", f"{_task_path(task)}/stop", body=body) as response:
            response.read()

    def drain(self, *, wanted: bool, deadline: float = 0.0) -> AgentView:
        """Have the host take no new tasks, or take them again; durable when this returns.

        ``deadline`` is the Unix time from which on the remaining tasks are stopped, 0 for never.
        """
        body = msgspec.json.encode(DrainOrder(wanted=wanted, deadline=deadline))
        with self._exchange("POST", "/v1/drain", body=body) as response:
            return self._read(response.read(), AgentView)

    def logs(
        self,
        task: str,
        *,
        container: str = "",
        tail: int | None = None,
        follow: bool = False,
        since_ns: int = 0,
        timestamps: bool = False,
    ) -> Iterator[bytes]:
        """Yield a container's output as it arrives; with ``follow``, until the container stops.

        With ``timestamps``, each line comes after its time. ``since_ns`` is in nanoseconds since the
        epoch.
        """
        query = {} if tail is None else {"tail": str(tail)}
        query |= {"container": container} if container else {}
        query |= {"follow": "true"} if follow else {}
        query |= {"since": str(since_ns)} if since_ns else {}
        query |= {"timestamps": "true"} if timestamps else {}
        path = f"{_task_path(task)}/logs"
        limit_s = None if follow else self._limit_s
        with self._exchange("GET", path, query=query, limit_s=limit_s) as response:
            while chunk := response.read1(65536):
                yield chunk

    def _decoded(self, path: str, kind: type[_View]) -> _View:
        with self._exchange("GET", path) as response:
            body = response.read()
        return self._read(body, kind)

    @staticmethod
    def _read(body: bytes, kind: type[_View]) -> _View:
        try:
            return msgspec.json.decode(body, type=kind)
        except BAD_JSON as error:
            raise CliError(
                f"the agent sent an answer that this command cannot read ({error}); "
                "use the ecs-agent command of the same version as the agent"
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
        """Send a request and yield its response; every failure meanwhile becomes a ``CliError``.

        ``limit_s`` is how long the agent may be silent during its answer; None means no limit.
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
                raise  # our own standard output is closed, for example because a pager ended
            except OSError as error:
                raise self.worded(error) from None
            except http.client.IncompleteRead:
                raise CliError("the agent's answer ended too early; look at its log") from None
            except http.client.HTTPException as error:
                text = f"the process that listens on {self._path} is not an ecs-agent ({error!r})"
                raise CliError(f"{text}; name the agent's socket with --socket") from None

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
            raise self.worded(error) from None

    def worded(self, error: OSError) -> CliError:
        """Return the error for a person of a failed connection to the agent."""
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
                f"the socket path {self._path[:40]}... has {len(os.fsencode(self._path))} bytes, but "
                f"at most {SOCKET_PATH_BYTES} are allowed; use a shorter path"
            )
        if isinstance(error, ConnectionRefusedError) and not Path(self._path).is_socket():
            return CliError(f"{self._path} is not a socket; name the agent's socket with --socket")
        if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
            return AgentNotRunning(
                f"the agent is not running (no process listens on {self._path}); start it with "
                "'systemctl start ecs-agent' or 'ecs-agent standalone', or name its socket "
                "with --socket"
            )
        return CliError(f"cannot talk to the agent on {self._path} ({error}); look at its log")


def _task_path(task: str) -> str:
    name = task.strip().rstrip("/")
    if not name:
        text = "TASK is empty; give a task id or its beginning, a family, or a container name"
        raise CliError(text, exit_code=ExitCode.USAGE)
    return f"/v1/tasks/{quote(name, safe='')}"


def _with(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _problem(response: http.client.HTTPResponse) -> str:
    body: Any = response.read()
    try:
        return msgspec.json.decode(body, type=Problem).message
    except BAD_JSON:
        return f"the agent answered {response.status} {response.reason}; look at its log"

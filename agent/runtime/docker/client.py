"""The ``docker`` SDK's low-level client, adapted to many threads and hard deadlines.

It talks only to one Unix socket, and differs from the plain ``APIClient`` as follows:

- Each thread keeps one connection. (The SDK has one pool per URL, so two containers never share a
  connection.)
- Every wait on the socket ends at the deadline of the thread's ``BlockingCall``, whatever timeout an SDK
  method sets, and ``BlockingCall.abort`` wakes it at once.
- Nothing is read from ``~/.docker``, ``.netrc`` or proxy variables: an agent has no home directory,
  the lookups cost a third of a call, and registry credentials come only from the agent's settings.
- The API version is the newest that both sides support, negotiated at the first call.

Tests: ``tests/unit/runtime/test_streams.py``, ``tests/integration/runtime/test_docker_faults.py``.
"""

from __future__ import annotations

import socket
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import docker.errors
import requests
from docker.api.client import APIClient
from docker.auth import AuthConfig
from docker.constants import DEFAULT_DOCKER_API_VERSION, MINIMUM_DOCKER_API_VERSION
from docker.transport.unixconn import (
    UnixHTTPAdapter,
    UnixHTTPConnection,
    UnixHTTPConnectionPool,
)
from docker.utils import version_lt

from agent.errors import ConfigError, EngineRefused
from agent.runtime.docker import log_drivers
from agent.runtime.docker.lanes import current_call
from agent.runtime.docker.streams import demultiplex, frames, stamped_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.model.exec import ExecCommand
    from agent.runtime.protocol import LogSelection

_PREFIX = "http+docker://"
_SCHEME = "unix://"
_LOG_CHUNK = 65536
_CONSOLE_SIZE_SINCE_API = "1.42"
_NO_DETACH_KEYS = "ctrl-^,ctrl-@,ctrl-^,ctrl-@"
"""The engine ends a session at these keys and cannot do without; its default withholds Ctrl-P."""


def socket_path(docker_host: str) -> str:
    """Return the path in a ``unix://`` address.

    Raises:
        ConfigError: the address is not a ``unix://`` address.
    """
    path = docker_host.removeprefix(_SCHEME)
    if path == docker_host or not path.startswith("/"):
        raise ConfigError(
            f"DOCKER_HOST {docker_host!r} is not supported: the agent reaches the engine only over "
            "a Unix socket; use unix:///var/run/docker.sock"
        )
    return path


class _Connection(UnixHTTPConnection):
    """A connection that tells the thread's ``BlockingCall`` which socket it waits on."""

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.unix_socket)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
        self._tell()

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._tell()
        super().request(*args, **kwargs)

    def _tell(self) -> None:
        if (call := current_call()) is not None and self.sock is not None:
            call.attach(self.sock)


class _Pool(UnixHTTPConnectionPool):
    """A pool with the one connection of a thread."""

    def _new_conn(self) -> Any:  # the stubs of urllib3 and docker disagree about the base class
        return _Connection(self.base_url, self.socket_path)


class _Own(threading.local):
    """What one thread owns."""

    pool: _Pool | None = None
    response: requests.Response | None = None


class ThreadAdapter(UnixHTTPAdapter):
    """Sends each request over the connection of the calling thread."""

    def __init__(self, path: str) -> None:
        super().__init__(f"http+unix://{path}", pool_connections=1, max_pool_size=1)
        self._own = _Own()

    def get_connection(
        self,
        url: bytes | str,
        proxies: Any = None,
    ) -> UnixHTTPConnectionPool:
        """Return the calling thread's pool of one connection."""
        if self._own.pool is None:
            self._own.pool = _Pool("http://localhost", self.socket_path, maxsize=1)
        return self._own.pool

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request; the call's deadline replaces the timeout set by the SDK."""
        call = current_call()
        if call is not None:
            timeout = call.socket_timeout_s()
        response = super().send(request, stream, timeout, verify, cert, proxies)
        self._own.response = response
        return response

    def finish(self, reusable: bool) -> None:
        """End the thread's call; an unread answer or a closed socket ends its connection."""
        if self._own.response is not None:
            self._own.response.close()
            self._own.response = None
        if not reusable:
            self.close_own()

    def close_own(self) -> None:
        """Close the calling thread's connection."""
        if self._own.pool is not None:
            self._own.pool.close()
            self._own.pool = None


class ExecState(NamedTuple):
    """A command as the engine reports it."""

    running: bool
    exit_code: int
    pid: int
    """Process id on the host; 0 if it was never started."""


class ExecStart(NamedTuple):
    """A command that was created and is to be started."""

    exec_id: str
    target: str
    """Path of the call that starts it."""
    body: dict[str, Any]


class EngineClient(APIClient):
    """An ``APIClient`` for one socket; safe to use from all threads of the engine's lanes."""

    def __init__(self, path: str) -> None:
        super().__init__(base_url=f"unix://{path}", version=MINIMUM_DOCKER_API_VERSION)
        self.trust_env = False
        self._general_configs: dict[str, Any] = {}
        self._auth_configs = AuthConfig({})
        self.adapter = ThreadAdapter(path)
        self._custom_adapter = self.adapter
        self.mount(_PREFIX, self.adapter)
        self.negotiated = False

    def negotiate(self) -> dict[str, Any]:
        """Select the newest API version that both sides support; return the engine's versions.

        Raises:
            EngineRefused: there is no common version.
        """
        versions = self.version(api_version=False)
        newest = str(versions.get("ApiVersion", ""))
        oldest = str(versions.get("MinAPIVersion") or newest)
        chosen = min(newest, DEFAULT_DOCKER_API_VERSION, key=_number)
        if _number(chosen) < max(_number(oldest), _number(MINIMUM_DOCKER_API_VERSION)):
            raise EngineRefused(
                f"the engine supports API versions {oldest or '?'} to {newest or '?'}, the agent "
                f"{MINIMUM_DOCKER_API_VERSION} to {DEFAULT_DOCKER_API_VERSION}: update one of them",
                operation="negotiated",
            )
        self._version = chosen
        self.negotiated = True
        return versions

    def messages(self, *, since: str, actions: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield events of containers and their networks from ``since`` on (seconds.nanoseconds).

        Returns when the engine has answered; the iterator ends when the engine ends the stream.
        """
        filters = {"type": ["container", "network"], "event": list(actions)}
        # The stubs only allow whole seconds; the engine and the SDK accept the text.
        stream: Any = self.events(since=cast(Any, since), filters=filters, decode=True)
        return cast("Iterator[dict[str, Any]]", stream)

    def log_chunks(self, container_id: str, selection: LogSelection) -> Iterator[bytes]:
        """Yield a container's output as it arrives.

        The SDK's ``logs`` would read the output of a terminal byte by byte.

        Raises:
            EngineRefused: its log driver cannot be read back.
        """
        raw = self.inspect_container(container_id)
        path = f"/containers/{urllib.parse.quote(container_id, safe='')}/logs"
        seconds, nanoseconds = divmod(selection.since_ns, 1_000_000_000)
        response = self.get(
            f"{self.base_url}/v{self.api_version}{path}",
            params={
                "stdout": "1",
                "stderr": "1",
                "follow": "1" if selection.follow else "0",
                "timestamps": "1" if selection.timestamps else "0",
                "tail": "all" if selection.tail is None else str(selection.tail),
                **({"since": f"{seconds}.{nanoseconds:09d}"} if selection.since_ns else {}),
            },
            stream=True,
        )
        if not response.ok:
            log_drivers.refuse_unreadable(response.text, raw)
            docker.errors.create_api_error_from_http_exception(
                requests.HTTPError(response=response)
            )
        chunks: Iterator[bytes] = response.raw.stream(_LOG_CHUNK)
        if (raw.get("Config") or {}).get("Tty") is True:
            return chunks
        return stamped_lines(frames(chunks)) if selection.timestamps else demultiplex(chunks)

    def create_exec(self, container_id: str, command: ExecCommand) -> ExecStart:
        """Create a command in a container and return the call that starts it."""
        made = self.exec_create(
            container_id,
            command.words,
            stdin=True,
            tty=command.terminal is not None,
            user=command.user,
            environment=command.environment or None,
            workdir=command.workdir or None,
            detach_keys=_NO_DETACH_KEYS,
        )
        exec_id = str(made["Id"])
        body: dict[str, Any] = {"Detach": False, "Tty": command.terminal is not None}
        size = command.terminal
        if size is not None and not version_lt(self.api_version, _CONSOLE_SIZE_SINCE_API):
            body["ConsoleSize"] = [size.rows, size.columns]
        return ExecStart(exec_id, f"/v{self.api_version}/exec/{exec_id}/start", body)


def _number(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        return (0,)

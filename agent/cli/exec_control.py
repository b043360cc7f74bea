"""``ecs-agent exec --cluster``: a command in a container of any host, by way of the control endpoint of this host.

The session is begun by ExecuteCommand, and so needs a task that was run with it enabled.

Tests: ``tests/unit/cli/test_exec_control.py``.
"""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec

from agent.cli import exec_session
from agent.cli.client import CliError
from agent.model.exec import INPUT_WINDOW_BYTES
from agent.model.fleet_views import FleetView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.cli.control_calls import ControlApi
    from agent.model.exec import TerminalSize

_USAGE_PATH: Final = "/control/usage"
_LISTED: Final = 5


class Opening(NamedTuple):
    """What opens a session."""

    path: str
    token: str


def begin(
    api: ControlApi, cluster: str, task: str, container: str, words: Sequence[str]
) -> Opening:
    """Begin a session.

    Args:
        api: of the control endpoint of this host.
        cluster: name of the cluster.
        task: an ARN, an id or its beginning, or the family of the only such task.
        container: empty for the only one of the task.
        words: the command.

    Raises:
        CliError: the task is not found, or control refuses it.
    """
    asked: dict[str, Any] = {
        "cluster": cluster,
        "task": task if task.startswith("arn:") else _found(api, cluster, task),
        "command": shlex.join(words),
        "interactive": True,
    }
    answer = api.call(
        "ecs", "ExecuteCommand", asked | ({"container": container} if container else {})
    )
    session = answer["session"]
    return Opening(urlsplit(session["streamUrl"]).path, session["tokenValue"])


def _found(api: ControlApi, cluster: str, wanted: str) -> str:
    """Return the id of the task that is meant."""
    view = msgspec.convert(api.post(_USAGE_PATH, {"cluster": cluster}), FleetView)
    fitting = [
        task
        for task in view.tasks
        if task.id.startswith(wanted) or wanted in (task.family, f"{task.family}:{task.revision}")
    ]
    if len(fitting) == 1:
        return fitting[0].id
    if not fitting:
        raise CliError(
            f"no task {wanted!r} in cluster {cluster!r}; 'ecs-agent top --fleet --cluster {cluster}' lists them"
        )
    listed = ", ".join(task.id for task in fitting[:_LISTED])
    raise CliError(f"{wanted!r} matches several tasks: {listed}; use the beginning of an id")


async def run(api: ControlApi, opening: Opening, terminal: TerminalSize | None) -> int:
    """Carry a session out and return the exit code of the command.

    Raises:
        CliError: control cannot be reached, or ended the session.
    """
    hello = {"TokenValue": opening.token, "Speaks": "exec", "Terminal": terminal}
    async with _connected(api, opening.path) as socket:
        return await exec_session.carry_out(
            socket,
            msgspec.json.encode(hello).decode(),
            has_terminal=terminal is not None,
            window_bytes=INPUT_WINDOW_BYTES,
        )


@contextlib.asynccontextmanager
async def _connected(api: ControlApi, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    connector = aiohttp.UnixConnector(path=api.address.socket)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=exec_session.CONNECT_LIMIT_S)
    async with aiohttp.ClientSession(
        "http://localhost", connector=connector, timeout=limits
    ) as http:
        try:
            socket = await http.ws_connect(path, max_msg_size=0, compress=0)
        except (aiohttp.ClientError, OSError) as error:
            raise CliError(f"the session with the control endpoint failed: {error}") from None
        try:
            yield socket
        finally:
            await socket.close()

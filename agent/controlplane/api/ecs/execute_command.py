"""ExecuteCommand: a token for one session with a command in a container, and where to use it.

Error texts are those of Amazon ECS. Nothing runs before somebody opens the session.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.controlplane import access, records
from agent.controlplane.api.ecs import command_logging
from agent.controlplane.api.ecs.naming import active_cluster
from agent.controlplane.api.ecs.task_orders import EXECUTE_COMMAND
from agent.controlplane.api.ecs.task_reads import find_task
from agent.controlplane.authorization import caller
from agent.controlplane.authorization.caller import ROOT, Caller
from agent.controlplane.authorization.open_calls import AllowedCall
from agent.controlplane.execute_command.channel import PATH
from agent.controlplane.execute_command.sessions import CommandTarget, TooManySessions
from agent.controlplane.front import calling
from agent.controlplane.front.errors import (
    InvalidParameterException,
    ServerException,
    TargetNotConnectedException,
)
from agent.controlplane.records import InstanceRecord

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.records import ContainerRecord, TaskRecord

COMMAND_MOST: Final = 8 * 1024
NOT_ENABLED: Final = (
    "The execute command failed because execute command was not enabled when the task was run or the "
    "execute command agent isn\N{RIGHT SINGLE QUOTATION MARK}t running. Wait and try again or run a new "
    "task with execute command enabled and try again."
)

_log = structlog.get_logger(__name__)


async def execute_command(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Begin a session; its token opens it once, within five minutes."""
    cluster = await active_cluster(parts, request)
    if not request["interactive"]:
        raise InvalidParameterException("Interactive is the only mode supported currently.")
    words = _words(request["command"])
    task = (await find_task(parts, cluster.name, request["task"])).record
    container = _container(task, request.get("container") or "")
    runs = task.last_status == container.last_status == "RUNNING"
    if not task.enable_execute_command or not runs:
        raise InvalidParameterException(NOT_ENABLED)
    await _check_connected(parts, task)
    target = CommandTarget(
        task_arn=task.arn,
        instance_id=task.instance_id,
        container=container.name,
        words=words,
        log_group=await command_logging.log_group(parts, cluster, task, container.name),
    )
    call = caller.current_call() or AllowedCall(Caller(ROOT, "anyone", parts.names.root()))
    try:
        begun = parts.commands.begin(target, call)
    except TooManySessions as error:
        raise ServerException(str(error)) from None
    _log.info(
        "session of a command begun",
        session=begun.id,
        task=task.arn,
        container=container.name,
        by=call.caller.name,
        program=words[0],
    )
    return {
        "clusterArn": cluster.arn,
        "containerArn": container.arn,
        "containerName": container.name,
        "interactive": True,
        "taskArn": task.arn,
        "session": {
            "sessionId": begun.id,
            "streamUrl": f"{calling.websocket_url()}{PATH}{begun.id}",
            "tokenValue": begun.token,
        },
    }


def _words(command: str) -> list[str]:
    """Return program and arguments of a command line; raises ``InvalidParameterException``."""
    if len(command) > COMMAND_MOST:
        raise InvalidParameterException(f"command is longer than {COMMAND_MOST} characters.")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidParameterException(f"command cannot be split into words: {error}.") from None
    if not words or not words[0]:
        raise InvalidParameterException("command can not be empty.")
    if "\0" in command:
        raise InvalidParameterException("command can not have null characters.")
    return words


def _container(task: TaskRecord, name: str) -> ContainerRecord:
    if not name and len(task.containers) > 1:
        raise InvalidParameterException(
            "Container name is required for tasks with multiple containers: "
            f"{', '.join(one.name for one in task.containers)}."
        )
    found = next((one for one in task.containers if name in ("", one.name)), None)
    if found is None:
        raise InvalidParameterException(f"The container '{name[:255]}' does not exist in the task.")
    return found


async def _check_connected(parts: Parts, task: TaskRecord) -> None:
    """Check that the agent of a task connects when it is told; raises ``TargetNotConnectedException``."""
    alive = await parts.store.get(records.alive_key(task.instance_id))
    found = await access.find(
        parts.store, InstanceRecord, records.key_of_instance(task.instance_arn)
    )
    if alive is None or found is None or EXECUTE_COMMAND not in found.record.attributes:
        raise TargetNotConnectedException


HANDLERS: Handlers = {"ExecuteCommand": execute_command}

"""Options of the ``awslogs`` log driver that only this host knows: where it writes, and with which keys.

Logs that our own control keeps go to the agent's relay, with keys of the task. Those that go to CloudWatch
Logs itself are written with the execution role, where the order says so, and else with the engine's own
credentials. The engine asks the agent for the keys of the first two.

Source of the latter two: Amazon ECS agent 1.105.1, ``api/task/task.go``, ``engine/docker_task_engine.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.engine import log_config
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.execution_role import execution_credentials
from agent.errors import PayloadError
from agent.model import reasons

if TYPE_CHECKING:
    from agent.engine.preparations.contract import HostAccess
    from agent.model.payload import Container, TaskPayload

TO_CONTROL: Final = "control"
"""``logDestination`` of logs that our own control keeps."""
_EXECUTION_ROLE: Final = "ExecutionRole"
_PATH: Final = "/v2/credentials/"
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
"""What the driver takes for true."""


class AwslogsPreparation:
    """Options of the driver; see ``contract.Preparation``."""

    name = "awslogs"
    doing = "make logs ready"
    is_remote = True

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Tell whether a container of a task logs with ``awslogs``."""
        return any(log_config.driver(c) == log_config.AWSLOGS for c in payload.containers)

    def check(self, payload: TaskPayload) -> None:
        """Raise ``PayloadError`` where the execution role is to write and there is none."""
        for container in payload.containers:
            if _kind(container) == _EXECUTION_ROLE:
                _execution_id(payload, container)

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Return the options, once the credentials are there that the engine is about to ask for."""
        if any(_kind(container) == _EXECUTION_ROLE for container in payload.containers):
            await execution_credentials(payload, access.credentials)
        return Provision(
            log_options={c.name: await _options(payload, c, access) for c in payload.containers}
        )

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Do nothing: nothing was made."""


async def _options(
    payload: TaskPayload, container: Container, access: HostAccess
) -> dict[str, str]:
    if log_config.driver(container) != log_config.AWSLOGS:
        return {}
    given, kind = log_config.options(container), _kind(container)
    if kind == TO_CONTROL:
        creates = given.get("awslogs-create-group") in _TRUE
        id_ = access.log_relay.credentials_id(payload.arn, create_group=creates)
        return {
            "awslogs-endpoint": access.log_relay.endpoint,
            "awslogs-credentials-endpoint": f"{_PATH}{id_}",
        }
    options = {}
    if kind == _EXECUTION_ROLE:
        options["awslogs-credentials-endpoint"] = f"{_PATH}{_execution_id(payload, container)}"
    region = given.get("awslogs-region")
    if region and not given.get("awslogs-endpoint"):
        url = await access.log_relay.cloudwatch_endpoint(region)
        options |= {"awslogs-endpoint": url} if url else {}
    return options


def _kind(container: Container) -> str:
    if log_config.driver(container) != log_config.AWSLOGS:
        return ""
    if container.log_destination == TO_CONTROL:
        return TO_CONTROL
    return _EXECUTION_ROLE if container.logs_auth_strategy == _EXECUTION_ROLE else ""


def _execution_id(payload: TaskPayload, container: Container) -> str:
    credentials = payload.execution_role_credentials
    if credentials is None or not credentials.credentials_id:
        text = f"container {container.name} logs with the execution role, and the task has none"
        raise PayloadError(text, name=reasons.HOST_CONFIG)
    return credentials.credentials_id

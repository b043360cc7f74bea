"""The scale-in protection of tasks, asked of Amazon ECS with the keys of the task's own role.

Uses the network. Keeps nothing; any number of calls at once. Source: Amazon ECS agent 1.105.1,
``ecs-agent/tmds/handlers/taskprotection``.

Tests: ``tests/unit/upstream/amazon/test_protection.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.aws.role_keys import RoleKeys
from agent.errors import (
    AwsFailure,
    AwsRefused,
    AwsUnavailable,
    ControlUnavailable,
    CredentialsAwaited,
    EcsRefused,
    ErrorAnswer,
)
from agent.model.payload import RoleType
from agent.model.protection import ProtectionOutcome

if TYPE_CHECKING:
    from agent.aws.cloud import Cloud
    from agent.model.payload import Credentials
    from agent.model.protection import ProtectionCall
    from agent.upstream.protocol import CredentialStore

_ATTEMPT_S: Final = 3.0
"""The task waits for four seconds in all."""
_NO_ROLE: Final = ErrorAnswer(
    403,
    "AccessDeniedException",
    "Invalid Request: no task IAM role credentials available for task",
)


class ProtectionApi:
    """The two calls of one client."""

    def __init__(
        self, cloud: Cloud, credentials: CredentialStore, *, cluster: str, backend_host: str
    ) -> None:
        self._cloud = cloud
        self._credentials = credentials
        self._cluster = cluster
        self._backend_host = backend_host

    async def ask(self, asked: ProtectionCall) -> ProtectionOutcome:
        """Return the protection of a task, changed first if the call says so.

        Raises:
            EcsRefused: the task has no role, or Amazon ECS answered with an error.
            ControlUnavailable: it cannot be asked now.
        """
        if self._newest(asked) is None:
            raise EcsRefused(_NO_ROLE)

        async def role(other_than: Credentials | None) -> Credentials:
            newest = self._newest(asked)
            if newest is None or newest == other_than:
                raise CredentialsAwaited("there are no newer credentials of the task's role")
            return newest

        api = self._cloud.ecs(override=self._backend_host, keys=RoleKeys(role))
        operation = "GetTaskProtection" if asked.change is None else "UpdateTaskProtection"
        try:
            answer = await api.call(operation, request_of(asked, self._cluster), limit_s=_ATTEMPT_S)
            return msgspec.convert(answer, ProtectionOutcome)
        except msgspec.ValidationError as error:
            raise ControlUnavailable(f"{operation}: the answer is not valid: {error}") from None
        except (AwsRefused, AwsUnavailable) as error:
            if error.answer is not None and error.answer.code:
                raise EcsRefused(error.answer) from None
            raise ControlUnavailable(str(error)) from None
        except (AwsFailure, CredentialsAwaited) as error:
            raise ControlUnavailable(str(error)) from None

    def _newest(self, asked: ProtectionCall) -> Credentials | None:
        return self._credentials.newest(asked.task_arn, RoleType.APPLICATION)


def request_of(asked: ProtectionCall, cluster: str) -> dict[str, Any]:
    """Return the request to Amazon ECS. Pure."""
    change = {} if asked.change is None else msgspec.to_builtins(asked.change)
    return {"cluster": cluster, "tasks": [asked.task_arn], **change}

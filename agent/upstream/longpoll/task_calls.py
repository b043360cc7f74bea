"""Calls to control that the agent makes for one task, when it is needed and not before.

Each waits for the registration of this host. Used from any number of tasks at once; keeps nothing.

Tests: ``tests/unit/upstream/longpoll/test_client.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.errors import ControlFailure, ControlUnavailable, EcsRefused, PayloadError
from agent.upstream.longpoll.answers import RequestRefused, SecretsMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.protection import ProtectionCall, ProtectionOutcome
    from agent.upstream.longpoll.exchange import Identity
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.longpoll.registration import LongPollRegistration

IDENTITY_LIMIT_S: Final = 30.0
"""How long a call for a task waits until this host is registered."""


class TaskCalls:
    """The calls of one client."""

    def __init__(self, client: HttpClient, registration: LongPollRegistration) -> None:
        self._client = client
        self._registration = registration

    async def secrets(self, task_arn: str, names: list[str]) -> Mapping[str, str]:
        """Return the values that control keeps for a task of this host, by their names.

        Raises:
            PayloadError: control does not have one of them, or not for this task.
            ControlUnavailable: control cannot be asked now.
        """
        try:
            return await self._client.secrets(await self._identity(), task_arn, names)
        except SecretsMissing as error:
            raise PayloadError(
                f"control does not have the secrets {', '.join(error.missing)} for this task"
            ) from None
        except ControlFailure as error:
            raise _waiting(error) from None

    async def protection(self, asked: ProtectionCall) -> ProtectionOutcome:
        """Return the scale-in protection of a task of this host, changed first if asked for.

        Raises:
            EcsRefused: control refuses what is asked for.
            ControlUnavailable: control cannot be asked now.
        """
        try:
            return await self._client.protection(await self._identity(), asked)
        except RequestRefused as error:
            raise EcsRefused(error.answer) from None
        except ControlFailure as error:
            raise _waiting(error) from None

    async def _identity(self) -> Identity:
        try:
            async with asyncio.timeout(IDENTITY_LIMIT_S):
                return await self._registration.identity()
        except TimeoutError:
            raise ControlUnavailable("this host is not registered with control now") from None


def _waiting(error: ControlFailure) -> ControlUnavailable:
    """Return why a task has to wait; what it means for the host, other loops find out."""
    return error if isinstance(error, ControlUnavailable) else ControlUnavailable(str(error))

"""Functions by which parts of the agent get what control alone has; types only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from agent.model.payload import Credentials

AskRole = Callable[[Credentials | None], Awaitable[Credentials]]
"""Gives the newest credentials of a task's role, other than these.

Raises:
    CredentialsAwaited: control has yet to send them.
    PayloadError: the task has no such role.
"""

AskControl = Callable[[str, list[str]], Awaitable[Mapping[str, str]]]
"""Gives the values that control keeps for a task, by its ARN and their names.

Raises:
    PayloadError: control does not have one of them, or is of a kind that keeps none.
    ControlFailure: control cannot be asked now.
"""

AskTags = Callable[[str], Awaitable[Mapping[str, str]]]
"""Gives the tags that a task of this host has now, or the host's container instance, by its ARN.

Raises:
    AgentError: control cannot be asked now, or does not tell.
"""

"""The container that holds the process and IPC namespaces which the containers of a task share.

Source: Amazon ECS agent 1.105.1, ``api/task`` (the namespace pause container). In ``awsvpc`` mode the
sandbox is that container, and there is nothing to prepare (``shared_namespaces.needs_holder``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine import shared_namespaces
from agent.engine.preparations.contract import Provision

if TYPE_CHECKING:
    from agent.engine.preparations.contract import HostAccess
    from agent.model.payload import TaskPayload


class NamespacePreparation:
    """The holder of a task's namespaces; see ``contract.Preparation``."""

    name = "namespaces"
    doing = "make the namespaces that the containers share"
    is_remote = False

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Return whether the task needs a container that holds its namespaces."""
        return shared_namespaces.needs_holder(payload)

    def check(self, payload: TaskPayload) -> None:
        """Return: a mode that is not supported is refused when a container is made."""

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Make the holder, or take over the one that is there."""
        return Provision(namespaces=await access.namespaces.ensure(payload))

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Remove the holder, if that was not done when the task stopped."""
        await access.namespaces.remove(payload)

"""The control group that all containers of a task share, with the limits of the task.

Source: Amazon ECS agent 1.105.1, ``taskresource/cgroup``: every task has one, also a task without
limits, whose containers then share CPU time with those of other tasks as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.preparations.contract import Provision

if TYPE_CHECKING:
    from agent.engine.preparations.contract import HostAccess
    from agent.model.payload import TaskPayload


class TaskCgroupPreparation:
    """The task's control group; see ``contract.Preparation``."""

    name = "cgroup"
    doing = "make the control group of the task"
    is_remote = False

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Tell that every task has one: whether the host can limit tasks is found out later."""
        del payload
        return True

    def check(self, payload: TaskPayload) -> None:
        """Return: sizes that contradict each other are refused by ``admissible``."""

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Make the group, or bring the limits of the one that is there in order."""
        if not access.groups.limiting:
            return Provision()
        parent = await access.groups.ensure(payload)
        memory_mib = access.groups.memory_shown_mib(payload)
        return Provision(cgroup_parent=parent, memory_mib=memory_mib)

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Remove the group, which has no processes any more."""
        await access.groups.remove(payload.arn)

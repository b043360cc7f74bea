"""What of an order goes into a ``PayloadMessage``, and which orders share one.

Reads the store; raises what it raises. Tests: ``tests/unit/controlplane/agents/amazon/test_orders.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from agent.controlplane.agents import bindings
from agent.controlplane.agents.amazon import shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.agents.assignments import AssignedTask
    from agent.controlplane.agents.parts import AgentParts
    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.roles.contract import Issued
    from agent.model.payload import Credentials, TaskPayload

TASKS_PER_MESSAGE: Final = 10
MESSAGE_BYTES: Final = 256 * 1024
_OURS: Final = "ecs-host-agent."


class Item(NamedTuple):
    """One task of a message."""

    order: AssignedTask
    encoded: bytes
    issued: list[Issued]
    """The credentials in it, or older ones."""


class Items:
    """Makes the items of all connections."""

    def __init__(self, agent_parts: AgentParts) -> None:
        self._orders = agent_parts.orders
        self._roles = agent_parts.parts.roles

    def is_complete(self, order: AssignedTask) -> bool:
        """Tell whether an order has all that its agent needs.

        Amazon's agent starts what it is given, with credentials or without; the instance is woken
        when they come.
        """
        is_to_stop = order.assignment.desired_status == "STOPPED"
        return is_to_stop or not self._orders.lacks_credentials(order.task)

    async def item(self, order: AssignedTask, instance: InstanceRecord) -> Item | None:
        """Return a task as it is sent; None for one that its agent has already."""
        # Before the payload: it then has these, or newer ones.
        issued = [
            found
            for kind in order.task.roles
            if (found := self._roles.current(order.task.id, kind)) is not None
        ]
        shape = await self._shape(order, instance)
        return None if shape is None else Item(order, msgspec.json.encode(shape), issued)

    async def _shape(self, order: AssignedTask, instance: InstanceRecord) -> dict[str, Any] | None:
        desired, task = order.assignment.desired_status, order.task
        is_held = desired != "STOPPED" and bool(task.connectivity)
        if is_held and not is_ours(instance):
            return None
        payload = await self._orders.payload(order, takes_logs=False)
        if payload is not None:
            return shapes.task(_with_usable_credentials(payload))
        if is_held:
            return None
        # An agent reports what it cannot load, which ends the task with a reason.
        wanted = desired if desired == "STOPPED" else shapes.UNREADABLE
        return {"arn": task.arn, "desiredStatus": wanted, "containers": []}


def is_ours(instance: InstanceRecord) -> bool:
    """Tell whether the agent of an instance is one of ours, and not Amazon's."""
    said = instance.attributes.keys() - {bindings.ATTRIBUTE}  # which is control's own word
    return any(name.startswith(_OURS) for name in said)


def fits(batch: Sequence[Item], item: Item) -> bool:
    """Tell whether a task may join a message; stops keep to themselves, since they never wait."""
    size = sum(len(each.encoded) for each in (*batch, item))
    wanted = {each.order.assignment.desired_status for each in (*batch, item)}
    return len(batch) < TASKS_PER_MESSAGE and size <= MESSAGE_BYTES and len(wanted) == 1


def _with_usable_credentials(payload: TaskPayload) -> TaskPayload:
    """Return a payload without credentials that are still to come: agents would keep them as they are."""
    return replace(
        payload,
        role_credentials=_usable(payload.role_credentials),
        execution_role_credentials=_usable(payload.execution_role_credentials),
    )


def _usable(credentials: Credentials | None) -> Credentials | None:
    return credentials if credentials is not None and credentials.access_key_id else None

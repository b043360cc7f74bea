"""Finds out which task has which sandbox from containers and records, and tells the tasks.

Used once, at the start, before any runner runs. Rows of sandboxes and records may be lost, outdated
or wrong; the engine is right.

Tests: ``tests/unit/engine/test_engine_lost_state.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engine.labels import LABEL_OWNER, LABEL_TASK
from agent.network.recovery import Holder
from agent.runtime.protocol import joined

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from agent.engine.runner import Runner
    from agent.model.task import TaskNetwork
    from agent.runtime.protocol import ContainerEngine


async def of_sandboxes(
    runners: Mapping[str, Runner], runtime: ContainerEngine, owner: str
) -> dict[str, Holder]:
    """Return the task of each sandbox, by the sandbox's engine id.

    A container's labels and its network mode say which sandbox its task has. They are reliable,
    because a container cannot leave the network that it was created in. For a task without
    containers, the record is used.

    Raises:
        RuntimeFailure: the engine cannot list its containers.
    """
    found: dict[str, Holder] = {}
    attachments: dict[str, str] = {}
    for arn, runner in runners.items():
        network = runner.record.network
        if network is not None:
            attachments[arn] = network.attachment_id
            if runner.record.network_held:
                found[network.sandbox_id] = Holder(arn, network.attachment_id)
    listed = await runtime.list_containers(labels={LABEL_OWNER: owner, LABEL_TASK: None})
    for container in listed:
        sandbox, arn = joined(container.network_mode), container.labels[LABEL_TASK]
        if sandbox:
            found[sandbox] = Holder(arn, attachments.get(arn, ""))
    return found


def compare(
    runners: Mapping[str, Runner], networks: Mapping[str, TaskNetwork], lost: Collection[str]
) -> None:
    """Correct the networks in records, and notify tasks that have lost theirs."""
    for arn, runner in runners.items():
        record = runner.record
        network = networks.get(arn)
        if network is not None:
            record.network, record.network_held = network, True
            if arn in lost:
                runner.network_lost("the task's network sandbox stopped")
        elif record.network_held:
            runner.network_lost("the task's network sandbox is gone")

"""What an earlier process left of its tasks: records, the ends of others, and who has which sandbox.

Read once, at start, before anything runs. Rows of sandboxes may be lost, older or wrong, records too,
and the container engine is right.

Tests: ``tests/unit/engine/test_engine_lost_state.py``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from agent.engine.ended_tasks import EndedTasks
from agent.engine.labels import LABEL_CONTAINER, LABEL_OWNER, LABEL_TASK
from agent.model import task
from agent.model.status import ContainerStatus, NetworkMode
from agent.network.container_sandboxes.kinds import LABEL as LABEL_SANDBOX
from agent.network.container_sandboxes.owners import Containers, Owner, users
from agent.network.sandboxes.recovery import Holder
from agent.runtime.protocol import joined

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from agent.engine.live import LiveState
    from agent.model.task import AgentTask, TaskNetwork
    from agent.runtime.protocol import ContainerEngine
    from agent.state import StateStore

KIND: Final = "task"
"""Kind of the task engine's rows in the store."""


@dataclass(frozen=True, slots=True)
class HeldNetworks:
    """The networks that tasks really have, whatever their records say."""

    by_task: Mapping[str, TaskNetwork]
    """Of every task that holds one, by task ARN."""
    lost: Collection[str]
    """ARNs of tasks whose sandbox is dead."""

    def correct(self, record: AgentTask) -> str:
        """Put the network into a record; return why it is lost, empty where it is not."""
        network = self.by_task.get(record.arn)
        if network is not None:
            record.network, record.network_held = network, True
            return "the task's network sandbox stopped" if record.arn in self.lost else ""
        return "the task's network sandbox is gone" if record.network_held else ""


@dataclass(frozen=True, slots=True)
class RestoredTasks:
    """The tasks of an earlier process."""

    records: Sequence[AgentTask]
    """Oldest first."""
    ended: EndedTasks
    networks: HeldNetworks | None = None
    """Which networks they really have; None where nothing is known of them."""

    @classmethod
    async def open(cls, store: StateStore) -> RestoredTasks:
        """Return what the store has; rows that cannot be read are set aside by it.

        Raises:
            StateFailure: the store cannot be read.
        """
        records = await store.load(KIND, task.decode)
        return cls(tuple(records.values()), await EndedTasks.open(store))

    def with_networks(self, networks: HeldNetworks) -> RestoredTasks:
        """Return the same with what is known of networks by now."""
        return replace(self, networks=networks)

    async def sandbox_holders(self, runtime: ContainerEngine, owner: str) -> dict[str, Holder]:
        """Return the task of each sandbox, by the sandbox's id in the engine.

        A container tells by the network that it was made in and by its labels, and it is right: it
        cannot leave that network. A record tells of the sandbox of a task that has no container yet.

        Args:
            runtime: the container engine.
            owner: which containers are ours.

        Raises:
            RuntimeFailure: the engine cannot list its containers.
        """
        found: dict[str, Holder] = {}
        attachments: dict[str, str] = {}
        for record in self.records:
            network = record.network
            if network is not None:
                attachments[record.arn] = network.attachment_id
                if record.network_held:
                    found[network.sandbox_id] = Holder(record.arn, network.attachment_id)
        listed = await runtime.list_containers(labels={LABEL_OWNER: owner, LABEL_TASK: None})
        for container in listed:
            sandbox, arn = joined(container.network_mode), container.labels[LABEL_TASK]
            if sandbox:
                found[sandbox] = Holder(arn, attachments.get(arn, ""))
        return found

    async def container_sandboxes(self, runtime: ContainerEngine, owner: str) -> Containers:
        """Return the sandboxes of single containers, and who has joined which.

        Args:
            runtime: the container engine.
            owner: which containers are ours.

        Raises:
            RuntimeFailure: the engine cannot list its containers.
        """
        ready, mine = await asyncio.gather(
            runtime.list_containers(labels={LABEL_SANDBOX: owner}),
            runtime.list_containers(labels={LABEL_OWNER: owner, LABEL_TASK: None}),
        )
        given = {
            (protocol, port): Owner(record.arn, key.partition("/")[0])
            for record in self.records
            if not record.is_done
            for key, numbers in record.host_ports.items()
            for protocol, port in ((key.rpartition("/")[2], each) for each in numbers)
        }
        return Containers(ready, users(mine, LABEL_TASK, LABEL_CONTAINER), given)

    def stopped(self) -> frozenset[str]:
        """Return the ARNs of tasks that have stopped."""
        return frozenset(record.arn for record in self.records if record.is_done)


def existing_containers(record: AgentTask) -> list[str]:
    """Return the containers of a restored record that may exist in the engine."""
    return [c.name for c in record.containers.values() if c.known is not ContainerStatus.STOPPED]


def doubt_after_restart(record: AgentTask, live: LiveState) -> None:
    """Mark everything that may have happened after the record was last saved.

    Saving is lazy, so the newest facts may be lost, including an admission and the claim of a
    network.
    """
    existing = existing_containers(record)
    live.recheck.update(existing)
    live.unseen.update(existing)
    awsvpc = record.payload.mode is NetworkMode.AWSVPC
    live.network_doubtful = awsvpc and record.network is None and not record.cleaned_at

"""Which namespaces the containers of a task share, and who holds them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.engine import shared_namespaces
from agent.engine.container_body import ContainerContext, body
from agent.engine.preparations.contract import Provision
from agent.model.payload import Container, EngineConfig
from tests.support.tasks import container, payload

MIB = 1 << 20


def with_memory(name: str, mib: int) -> Container:
    return container(name, docker_config=EngineConfig(host_config={"shmsize": mib * MIB}))


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, False),
        ({"pid_mode": "host", "ipc_mode": "none"}, False),
        ({"pid_mode": "task"}, True),
        ({"ipc_mode": "task", "network_mode": "bridge"}, True),
        ({"ipc_mode": "task", "pid_mode": "host", "network_mode": "host"}, True),
        ({"pid_mode": "task", "network_mode": "awsvpc"}, False),
        ({"ipc_mode": "task", "network_mode": "awsvpc"}, False),
    ],
)
def test_the_sandbox_holds_them_where_there_is_one(fields: dict[str, Any], needed: bool) -> None:
    assert shared_namespaces.needs_holder(payload(container("a"), **fields)) is needed


def test_a_size_of_the_shared_memory_needs_a_holder_made_for_it() -> None:
    sized = (with_memory("a", 128), with_memory("b", 256), container("c"))
    task = payload(*sized, ipc_mode="task", network_mode="awsvpc")
    assert shared_namespaces.needs_holder(task)
    made = shared_namespaces.holder_body(task, image="pause", labels={"k": "v"})
    assert made["HostConfig"]["ShmSize"] == 256 * MIB
    assert made["HostConfig"]["IpcMode"] == "shareable"
    assert (made["Image"], made["Labels"]) == ("pause", {"k": "v"})
    # Its own memory is each container's own matter.
    alone = payload(*sized, pid_mode="task", network_mode="awsvpc")
    assert not shared_namespaces.needs_holder(alone)


def test_a_holder_of_processes_alone_shares_no_memory() -> None:
    made = shared_namespaces.holder_body(
        payload(container("a"), pid_mode="task"), image="pause", labels={}
    )
    assert "IpcMode" not in made["HostConfig"]
    assert made["HostConfig"]["NetworkMode"] == "none"


@pytest.mark.parametrize(
    ("fields", "joined"),
    [
        ({"pid_mode": "task"}, {"PidMode": "container:h"}),
        ({"ipc_mode": "task"}, {"IpcMode": "container:h"}),
        ({"pid_mode": "host", "ipc_mode": "task"}, {"PidMode": "host", "IpcMode": "container:h"}),
        ({}, {}),
    ],
)
def test_containers_join_the_holder(fields: dict[str, Any], joined: dict[str, str]) -> None:
    a = container("a")
    around = ContainerContext(provision=Provision(namespaces="h"))
    given = body(payload(a, **fields), a, around)["HostConfig"]
    assert {k: v for k, v in given.items() if k in ("PidMode", "IpcMode")} == joined


def test_containers_join_the_sandbox_also_without_its_network() -> None:
    a = container("a")
    deaf = container("b", docker_config=EngineConfig(config={"NetworkDisabled": True}))
    task = payload(a, deaf, pid_mode="task", ipc_mode="task", network_mode="awsvpc")
    around = ContainerContext(sandbox_id="s")
    for each, network in ((a, "container:s"), (deaf, "none")):
        given = body(task, each, around)["HostConfig"]
        assert given["NetworkMode"] == network
        assert given["PidMode"] == given["IpcMode"] == "container:s"

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.controlplane.agents import host_rules
from agent.controlplane.bounds import OutOfBounds
from agent.model.resources import Gpu, HostResources
from agent.model.wire import Register

HONEST = Register(
    cluster="arn:aws:ecs:us-east-1:000000000000:cluster/default",
    client_token="1f0c2b1e-0000-4000-8000-000000000000",
    resources=HostResources(
        cpu_units=192 * 1024,
        memory_mib=2_000_000,
        reserved_tcp=frozenset({22, 2375, 2376, 51678, 51679}),
        gpus=tuple(Gpu(uuid=f"GPU-{n}", name="NVIDIA H200", memory_mib=143771) for n in range(8)),
        gpu_driver_version="550.54.15",
        hostname="büro_7.example.com",
        boot_id="7c9d3f2e-9a7b-4a1e-8f1f-0c8a52f1d001",
        machine_id="4f1a2b3c4d5e6f708192a3b4c5d6e7f8",
        architecture="arm64",
        os_family="debian_12",
        kernel="6.1.0-18-cloud-amd64+deb12u1 #1",
        engine_version="20.10.24+dfsg1",
    ),
    attributes={"ecs.capability.task-eni": "", "stack": "prod blue"},
    tags={"Name": "host 7 – büro".replace("–", "-"), "kostenstelle": "4711"},
    agent_version="1.2.3",
    known_tasks=[
        f"arn:aws:ecs:us-east-1:000000000000:task/default/{n:032x}" for n in range(20_000)
    ],
)
LARGEST = msgspec.structs.replace(
    HONEST.resources,
    cpu_units=host_rules.CPU_UNITS_MOST,
    memory_mib=host_rules.MEMORY_MIB_MOST,
    reserved_tcp=frozenset(range(1, 65536)),
    hostname="",
)


@pytest.mark.parametrize("resources", [HONEST.resources, LARGEST], ids=["honest", "largest"])
def test_what_hosts_say_is_taken(resources: HostResources) -> None:
    call = msgspec.structs.replace(HONEST, resources=resources)
    host_rules.check(call)
    host_rules.look(msgspec.json.encode(call))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cpu_units": -5}, "resources.cpuUnits"),
        ({"cpu_units": 2**64}, "resources.cpuUnits"),
        ({"memory_mib": -1}, "resources.memoryMib"),
        ({"memory_mib": 2**40}, "resources.memoryMib"),
        ({"hostname": "h" * 1_000_000}, "resources.hostname"),
        ({"hostname": "web\n[error] forged"}, "resources.hostname"),
        ({"hostname": "web\x1b[2J"}, "resources.hostname"),
        ({"hostname": "a b"}, "resources.hostname"),
        ({"reserved_tcp": frozenset({65536})}, "resources.reservedTcp"),
        ({"reserved_udp": frozenset({-1})}, "resources.reservedUdp"),
        ({"gpus": (Gpu(uuid="g"),) * 257}, "resources.gpus"),
        ({"gpus": (Gpu(uuid="g\n"),)}, "resources.gpus[0].uuid"),
        ({"gpus": (Gpu(uuid="g", memory_mib=-1),)}, "resources.gpus[0].memoryMib"),
        ({"kernel": "6.1\x9b31m"}, "resources.kernel"),
        ({"os_family": "o" * 129}, "resources.osFamily"),
        ({"machine_id": "m" * 129}, "resources.machineId"),
        ({"engine_version": "\0"}, "resources.engineVersion"),
        ({"cgroup_version": -2}, "resources.cgroupVersion"),
    ],
)
def test_what_no_host_is_gets_refused(changes: dict[str, Any], field: str) -> None:
    resources = msgspec.structs.replace(HONEST.resources, **changes)
    with pytest.raises(OutOfBounds) as caught:
        host_rules.check(msgspec.structs.replace(HONEST, resources=resources))
    assert str(caught.value).startswith(field)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"client_token": ""}, "clientToken"),
        ({"client_token": "t" * 257}, "clientToken"),
        ({"attributes": {f"a{n}": "" for n in range(513)}}, "attributes"),
        ({"attributes": {"": "x"}}, "a name in attributes"),
        ({"attributes": {"a": "v" * 1025}}, "attributes['a']"),
        ({"attributes": {"a\x1b": "v"}}, "a name in attributes"),
        ({"tags": {f"t{n}": "" for n in range(51)}}, "tags"),
        ({"tags": {"a\nb": ""}}, "a name in tags"),
        ({"tags": {"a": "\u2028"}}, "tags['a']"),
        ({"tags": {"aws:x": ""}}, "tags"),
        ({"agent_version": "1\x1b[2J"}, "agentVersion"),
        ({"known_tasks": ["x" * 513]}, "knownTasks[0]"),
        ({"known_tasks": [""] * 50_001}, "knownTasks"),
        ({"seen_revision": -1}, "seenRevision"),
        ({"cluster": "c\0"}, "cluster"),
        ({"ec2_instance_id": "i" * 129}, "ec2InstanceId"),
    ],
)
def test_what_no_agent_says_gets_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(OutOfBounds) as caught:
        host_rules.check(msgspec.structs.replace(HONEST, **changes))
    assert str(caught.value).startswith(field)
    assert len(str(caught.value)) < 300

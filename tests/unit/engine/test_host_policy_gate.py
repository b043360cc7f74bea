"""What a policy says about whole tasks, and that nothing it admits gives a container power over the host."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import host_policy_file
from agent.engine import container_body, ports
from agent.engine.container_body import ContainerContext
from agent.engine.host_policy_gate import HostPolicyGate
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.efs import EfsSettings
from agent.engine.preparations.volumes import volume_sources, wanted_volumes
from agent.errors import PayloadError
from agent.host_policy.own import PolicyHost
from agent.model import payload as payloads
from agent.model.payload import (
    Container,
    EngineConfig,
    HostVolume,
    MountPoint,
    TaskPayload,
    Volume,
    VolumeFrom,
)
from tests.support import second_policy_check
from tests.support.tasks import container, payload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FACTS = PolicyHost(limits_tasks=True)


def gate(text: str = "", facts: PolicyHost = FACTS) -> HostPolicyGate:
    return HostPolicyGate(host_policy_file.parse(text, source="p.toml"), facts)


async def refused(task: TaskPayload, text: str = "", facts: PolicyHost = FACTS) -> list[str]:
    judge = await asyncio.to_thread(gate, text, facts)
    return [each.text for each in judge.refusals(task, await judge.resolve(task))]


def bound(path: str, *, read_only: bool = False) -> TaskPayload:
    mount = MountPoint(source_volume="v", container_path="/x", read_only=read_only)
    volume = Volume(name="v", host=HostVolume(source_path=path))
    return payload(container("app", mount_points=[mount]), volumes=[volume])


def docker(**configuration: Any) -> TaskPayload:
    mount = MountPoint(source_volume="v", container_path="/x")
    volume = Volume(name="v", type="docker", docker_volume_configuration=configuration)
    return payload(container("app", mount_points=[mount]), volumes=[volume])


async def test_an_ordinary_task_is_not_refused() -> None:
    data = MountPoint(source_volume="data", container_path="/data")
    task = payload(
        container("app", memory=64, mount_points=[data], environment={"A": "b"}),
        container("side", volumes_from=[VolumeFrom(source_container="app", read_only=True)]),
        volumes=[Volume(name="data")],
        network_mode="awsvpc",
        pid_mode="task",
        ipc_mode="task",
    )
    assert await refused(task) == []


async def test_what_is_judged_again_costs_nothing_and_sees_where_paths_lead_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of each container asks about the whole task."""
    (tmp_path / "good").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "good")
    judge = await asyncio.to_thread(gate, f'host_paths = ["{tmp_path}/good"]')
    task = bound(str(link))
    real = HostPolicyGate._judged
    judged = []

    def counted(self: HostPolicyGate, payload: TaskPayload, paths: Mapping[str, str]) -> Any:
        judged.append(payload)
        return real(self, payload, paths)

    monkeypatch.setattr(HostPolicyGate, "_judged", counted)
    for _ in range(3):
        await judge.check_start(task)
    assert len(judged) == 1
    link.unlink()
    link.symlink_to("/etc")
    with pytest.raises(PayloadError, match="mounts"):
        await judge.check_start(task)
    with pytest.raises(PayloadError, match="mounts"):
        await judge.check_start(task)
    assert len(judged) == 2
    await judge.check_start(bound(f"{tmp_path}/good"))  # another payload of the same task
    assert len(judged) == 3


async def test_privileged_mode_is_told_with_rule_and_container() -> None:
    task = payload(container("app", privileged=True), container("other"))
    assert await gate().reason_now(task) == (
        "host policy p.toml: rule privileged: container app asks for privileged mode"
    )


@pytest.mark.parametrize(
    "fields", [{"network_mode": "host"}, {"pid_mode": "host"}, {"ipc_mode": "host"}]
)
async def test_namespaces_of_the_host(fields: dict[str, str]) -> None:
    (found,) = await refused(payload(container("app"), **fields))
    assert "rule host_namespaces: container app shares the" in found
    assert (
        await refused(
            payload(container("app"), **fields), 'host_namespaces = ["network", "pid", "ipc"]'
        )
        == []
    )


async def test_a_link_is_followed_before_a_path_is_judged(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to("/etc")
    allowed = f'host_paths = ["{real}", "{tmp_path}/**"]'
    assert await refused(bound(str(real)), allowed) == []
    (found,) = await refused(bound(str(link)), allowed)
    assert found == f"rule host_paths: container app mounts {link}, which leads to /etc"
    assert await refused(bound(f"{link}/passwd"), allowed) != []
    link.unlink()
    link.symlink_to(real)
    assert await refused(bound(str(link)), allowed) == []


@pytest.mark.parametrize(
    ("configuration", "rule"),
    [
        ({"scope": "task"}, ""),
        ({"scope": "shared", "driver": "rexray", "autoprovision": True}, "volume_drivers"),
        (
            {"scope": "task", "driverOpts": {"type": "none", "device": "/", "o": "bind"}},
            "host_paths",
        ),
        ({"scope": "task", "driverOpts": {"type": "ext4", "device": "/dev/sda1"}}, "volume_types"),
        ({"scope": "task", "driverOpts": {"type": "nfs", "device": ":/", "o": "addr=x"}}, ""),
    ],
)
async def test_volumes_are_judged_before_they_are_made(configuration: Any, rule: str) -> None:
    found = await refused(docker(**configuration))
    assert [text.split(":")[0] for text in found] == ([f"rule {rule}"] if rule else [])


async def test_efs_is_a_type_of_its_own() -> None:
    volume = Volume(name="v", efs_volume_configuration={"fileSystemId": "fs-1"})
    mount = MountPoint(source_volume="v", container_path="/x")
    task = payload(container("app", mount_points=[mount]), volumes=[volume])
    assert await refused(task) == []
    (found,) = await refused(task, "volume_types = []")
    assert found == "rule volume_types: the task has a volume of type efs"


@pytest.mark.parametrize(
    ("task", "facts", "told"),
    [
        (payload(container("a", memory=64), container("b", memory=64)), FACTS, ""),
        (payload(container("a", memory=64), container("b", memory=65)), FACTS, "wants 129 MiB"),
        (
            payload(container("a", memory=64), container("b")),
            FACTS,
            "container b has no limit of MiB",
        ),
        (payload(container("a"), memory=128), FACTS, ""),
        (payload(container("a"), memory=129), FACTS, "the task wants 129 MiB"),
        (payload(container("a"), memory=64), PolicyHost(), "container a has no limit of MiB"),
    ],
)
async def test_memory_is_that_of_the_task_or_of_all_its_containers(
    task: TaskPayload, facts: PolicyHost, told: str
) -> None:
    found = await refused(task, "max_task = {memory_mib = 128}", facts)
    assert bool(found) == bool(told)
    assert told in "".join(found)


async def test_other_sizes_of_a_task() -> None:
    small = payload(container("a"), cpu=0.5)
    assert await refused(small, "max_task = {cpu = 512}") == []
    assert await refused(small, "max_task = {cpu = 511}") == [
        "rule max_task: the task wants 512 CPU units; 511 are allowed"
    ]
    assert (
        "no limit of CPU units"
        in (await refused(payload(container("a", cpu=10)), "max_task = {cpu = 512}"))[0]
    )
    assert (
        await refused(
            small, "max_task = {pids = 100}", PolicyHost(limits_tasks=True, task_pids_limit=100)
        )
        == []
    )
    assert "no limit of processes" in (await refused(small, "max_task = {pids = 100}"))[0]
    shm = EngineConfig(host_config={"ShmSize": 65 << 20})
    assert (
        "65 MiB of shared memory"
        in (await refused(payload(container("a", docker_config=shm)), "max_task = {shm_mib = 64}"))[
            0
        ]
    )


async def test_the_image_that_counts_is_the_one_that_is_made() -> None:
    other = container(
        "app", image="nginx", docker_config=EngineConfig(config={"image": "evil/app"})
    )
    assert await refused(payload(container("app", image="nginx")), 'images = ["nginx"]') == []
    (found,) = await refused(payload(other), 'images = ["nginx"]')
    assert found == "rule images: container app has the image evil/app"


# -- nothing that is admitted rules the host --------------------------------------------------------

MEMBERS = [
    "Privileged",
    "NetworkMode",
    "PidMode",
    "IpcMode",
    "UTSMode",
    "UsernsMode",
    "CgroupnsMode",
    "CapAdd",
    "CapDrop",
    "SecurityOpt",
    "Devices",
    "DeviceCgroupRules",
    "MaskedPaths",
    "ReadonlyPaths",
    "Runtime",
    "Binds",
    "Mounts",
    "VolumesFrom",
    "CgroupParent",
    "Sysctls",
    "Cgroup",
    "Memory",
    "Links",
    "LogConfig",
    "Tmpfs",
]
PATHS = st.sampled_from(
    [
        "/",
        "//",
        "/etc",
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/srv/../etc",
        "/proc/1/root",
        "v",
        "/tmp/.",
        "",
    ]
)
MODES = st.sampled_from(
    [
        "host",
        "bridge",
        "none",
        "",
        "container:x",
        "container:sandbox-of-the-task",
        "private",
        "shareable",
        "net",
    ]
)
NAMES = st.sampled_from(["SYS_ADMIN", "all", "CAP_CHOWN", "net_bind_service", "NET_ADMIN", "x"])
MOUNT = st.fixed_dictionaries(
    {},
    optional={
        "Type": st.sampled_from(["bind", "volume", "tmpfs", "npipe"]),
        "Source": PATHS,
        "source": PATHS,
        "Target": st.just("/x"),
        "VolumeOptions": st.fixed_dictionaries(
            {
                "DriverConfig": st.fixed_dictionaries(
                    {
                        "Name": st.sampled_from(["local", "", "rexray"]),
                        "Options": st.dictionaries(
                            st.sampled_from(["type", "o", "device"]),
                            st.sampled_from(
                                ["none", "bind", "/", "tmpfs", "nfs", "ro,rbind", "ext4"]
                            ),
                        ),
                    }
                )
            }
        ),
    },
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 5),
    MODES,
    st.lists(NAMES, max_size=2),
    st.lists(
        st.builds("{}:/x{}".format, PATHS, st.sampled_from(["", ":ro", ":rshared"])), max_size=2
    ),
    st.lists(MOUNT, max_size=2),
    st.lists(
        st.sampled_from(
            ["seccomp=unconfined", "no-new-privileges", "apparmor:unconfined", "label=disable"]
        ),
        max_size=2,
    ),
    st.lists(st.fixed_dictionaries({"PathOnHost": st.just("/dev/sda")}), max_size=1),
    st.dictionaries(
        st.sampled_from(["kernel.msgmax", "net.ipv4.tcp_keepalive_time"]), st.just("1"), max_size=1
    ),
)


@st.composite
def members(draw: st.DrawFn) -> dict[str, Any]:
    """Members of ``HostConfig`` in any case, with values of any kind."""
    spell = random.Random(draw(st.integers(0, 2**16)))
    found = {}
    for name in draw(st.lists(st.sampled_from(MEMBERS), max_size=4)):
        spelled = "".join(spell.choice((c.lower(), c.upper(), c)) for c in name)
        found[spelled.replace("s", "\N{LATIN SMALL LETTER LONG S}", draw(st.integers(0, 1)))] = (
            draw(VALUES)
        )
    return found


@st.composite
def tasks(draw: st.DrawFn) -> TaskPayload:
    given_members = draw(members())
    as_text = draw(st.booleans())
    one = Container(
        name="app",
        image="busybox",
        privileged=draw(st.booleans()) and draw(st.booleans()),
        mount_points=[MountPoint(source_volume="v", container_path="/v")],
        docker_config=EngineConfig(
            host_config=json.dumps(given_members) if as_text else given_members
        ),
    )
    options = draw(
        st.dictionaries(
            st.sampled_from(["type", "o", "device"]),
            st.sampled_from(["none", "bind", "/etc", "nfs"]),
        )
    )
    volume = draw(
        st.sampled_from(
            [
                Volume(name="v"),
                Volume(name="v", host=HostVolume(source_path=draw(PATHS))),
                Volume(
                    name="v", docker_volume_configuration={"scope": "task", "driverOpts": options}
                ),
            ]
        )
    )
    modes = st.sampled_from(["bridge", "none", "host", "awsvpc"])
    shared = st.sampled_from([None, "host", "task"])
    task = payload(
        one,
        volumes=[volume],
        network_mode=draw(modes),
        pid_mode=draw(shared),
        ipc_mode=draw(shared),
    )
    return payloads.decode(payloads.encode(task))


@given(tasks())
def test_nothing_that_the_baseline_admits_rules_the_host(task: TaskPayload) -> None:
    judge = gate()
    real = {
        path: path
        for path in (
            "/",
            "/etc",
            "/run/docker.sock",
            "/var/run/docker.sock",
            "/proc/1/root",
            "/tmp",
        )
    }
    if judge.refusals(task, real):
        return
    provision = Provision(mount_sources=volume_sources(task), namespaces="holder")
    around = ContainerContext(sandbox_id="sandbox", provision=provision)
    own = {"sandbox", "holder", "sandbox-of-the-task"}
    own |= {container_body.engine_name(task, each.name) for each in task.containers}
    for each in task.containers:
        try:
            around = replace(around, host_ports=ports.stand_ins(each))
            body = container_body.body(task, each, around)
        except PayloadError:
            continue  # never made
        assert second_policy_check.powers(body, own=own) == set()
    for volume in wanted_volumes(task, EfsSettings()):
        options = volume.options
        assert options.get("type", "") in ("", "nfs", "tmpfs")
        assert "bind" not in options.get("o", "")

"""A host with a policy of its own: what it refuses, when, and what it leaves alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.config import host_policy_file
from agent.engine.host_policy_gate import HostPolicyGate
from agent.model.payload import EngineConfig, HostVolume, MountPoint, RestartPolicy, Volume
from agent.model.status import NetworkMode
from tests.support.tasks import container

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.task_host import TaskHost

QUESTIONS = {"list", "inspect", "ping"}
MOUNT = MountPoint(source_volume="v", container_path="/x")


async def again(host: TaskHost, policy: str = "") -> None:
    """Begin another life under another policy, as a reload does."""
    rules = await asyncio.to_thread(host_policy_file.parse, policy, source="p.toml")
    await host.leave()
    host.host_policy = HostPolicyGate(rules)
    await host.start()


async def reason(host: TaskHost) -> str:
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    return last.reason + " ".join(c.reason or "" for c in last.containers)


async def test_a_refused_task_is_stopped_before_anything_is_pulled_or_made(host: TaskHost) -> None:
    await again(host)
    asked = len(host.runtime.calls)
    await host.order(container("app", privileged=True), container("b", image="ghost"))
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert (
        last.reason == "host policy p.toml: rule privileged: container app asks for privileged mode"
    )
    assert last.stop_code == "TaskFailedToStart"
    assert {operation for operation, _ in host.runtime.calls[asked:]} <= QUESTIONS


@pytest.mark.parametrize("mode", [NetworkMode.NONE, NetworkMode.BRIDGE, NetworkMode.AWSVPC])
async def test_what_the_agent_adds_itself_is_not_refused(host: TaskHost, mode: NetworkMode) -> None:
    await again(host)
    await host.order(
        container("app", mount_points=[MOUNT]),
        container("b"),
        network_mode=mode.value,
        pid_mode="task",
        volumes=[Volume(name="v")],
    )
    await host.until_known("RUNNING")


async def test_a_volume_that_exists_is_judged_by_how_it_was_made(host: TaskHost) -> None:
    await again(host)
    await host.runtime.create_volume("shared", options={"type": "none", "o": "bind", "device": "/"})
    volume = Volume(name="shared", type="docker", docker_volume_configuration={"scope": "shared"})
    mount = MountPoint(source_volume="shared", container_path="/x")
    await host.order(container("app", mount_points=[mount]), volumes=[volume])
    assert "rule host_paths: the task has a volume that mounts /" in await reason(host)
    assert not host.runtime.running()


async def test_a_volume_that_only_the_request_names_is_judged_too(host: TaskHost) -> None:
    await again(host)
    await host.runtime.create_volume(
        "foreign", options={"type": "none", "o": "bind", "device": "/"}
    )
    binds = EngineConfig(host_config={"Binds": ["foreign:/x"]})
    await host.order(container("app", docker_config=binds))
    assert "rule host_paths: container app has a volume that mounts /" in await reason(host)
    assert not host.runtime.running()


async def test_a_link_that_is_exchanged_meanwhile_is_noticed_before_a_container_is_made(
    host: TaskHost, tmp_path: Path
) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    await again(host, f'host_paths = ["{place}"]')
    await host.order(
        container("first", essential=False),
        container("app", ("first", "SUCCESS"), mount_points=[MOUNT]),
        volumes=[Volume(name="v", host=HostVolume(source_path=str(place)))],
    )
    await host.until(lambda: "first" in host.runtime.running())
    place.rmdir()
    place.symlink_to("/etc")
    host.runtime.exit("first", 0)
    assert f"mounts {place}, which leads to /etc" in await reason(host)
    assert ("create", "app") not in host.runtime.calls


async def test_a_link_that_is_exchanged_is_noticed_before_a_restart(
    host: TaskHost, tmp_path: Path
) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    await again(host, f'host_paths = ["{place}"]')
    await host.order(
        container(
            "app",
            mount_points=[MOUNT],
            restart_policy=RestartPolicy(enabled=True, restart_attempt_period=0),
        ),
        volumes=[Volume(name="v", host=HostVolume(source_path=str(place)))],
    )
    await host.until_known("RUNNING")
    place.rmdir()
    place.symlink_to("/etc")
    host.runtime.exit("app", 1)
    assert f"mounts {place}, which leads to /etc" in await reason(host)
    assert host.runtime.count("start", "app") == 1


async def test_a_new_policy_leaves_what_runs_and_starts_nothing_that_it_refuses(
    host: TaskHost,
) -> None:
    restarting = RestartPolicy(enabled=True, restart_attempt_period=0)
    await host.order(container("app", privileged=True, restart_policy=restarting))
    await host.until_known("RUNNING")
    await again(host)
    await host.until(lambda: not host.record().is_done and "app" in host.runtime.running())
    host.runtime.exit("app", 1)
    assert "rule privileged: container app asks for privileged mode" in await reason(host)

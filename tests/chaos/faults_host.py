"""Containers, links, rules and sockets are removed, changed and made behind the agents' backs."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.chaos.engine import inspect, remove_labelled, run_docker
from tests.chaos.engine_log import TASK
from tests.chaos.scene import Skip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.chaos.plan import Fault
    from tests.chaos.scene import Scene

T = TypeVar("T")
_NOTICED_S = 1.0
_TOLD_LIMIT_S = 45.0
_SANDBOXED = "container:"


@contextlib.contextmanager
def container_killed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Kill a task's container: its task ends."""
    container, task = _choose(fault, _containers())
    _hit(scene, fault, task)
    run_docker("kill", container)
    yield


@contextlib.contextmanager
def container_removed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Remove a task's container by force: its task ends."""
    container, task = _choose(fault, _containers())
    with _told(scene):
        _hit(scene, fault, task)
        run_docker("rm", "-f", container)
    yield


@contextlib.contextmanager
def sandbox_killed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Kill what holds a task's network: its task ends."""
    sandbox, task = _sandbox(fault)
    _hit(scene, fault, task)
    run_docker("kill", sandbox)
    yield


@contextlib.contextmanager
def sandbox_removed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Remove what holds a task's network: its task ends."""
    sandbox, task = _sandbox(fault)
    with _told(scene):
        _hit(scene, fault, task)
        run_docker("rm", "-f", sandbox)
    yield


@contextlib.contextmanager
def ended_started_again(scene: Scene, fault: Fault) -> Iterator[None]:
    """Start a container whose end the agent may have seen: it is stopped again."""
    container, task = _choose(fault, _containers("--filter", "status=exited"))
    scene.excuses.restarted.add(task)
    _hit(scene, fault, task)
    run_docker("start", container)
    yield


@contextlib.contextmanager
def name_taken(scene: Scene, fault: Fault) -> Iterator[None]:
    """Make a container that has the name which a sandbox would get."""
    third = 4 * int(fault.chance * len(scene.world.agents))
    name = f"ecs-sandbox-10-219-{third}-{random.Random(fault.chance).randint(2, 60)}"
    label = f"chaos={fault.number}"
    try:
        if not run_docker("create", "--name", name, "--label", label, scene.world.image, "true"):
            raise Skip(f"there is a {name}, or no engine")
        yield
    finally:
        remove_labelled(label)


@contextlib.contextmanager
def off_its_network(scene: Scene, fault: Fault) -> Iterator[None]:
    """Disconnect a container in bridge mode: it is connected again."""
    del scene
    ids = [container for container, _ in _containers()]
    bridged = [
        str(told["Id"])
        for told in inspect(ids)
        if "bridge" in _part(told, "NetworkSettings", "Networks")
    ]
    run_docker("network", "disconnect", "bridge", _choose(fault, bridged))
    yield


@contextlib.contextmanager
def link_deleted(scene: Scene, fault: Fault) -> Iterator[None]:
    """Delete a link of a task's network: it is made again."""
    _ip("link", "del", _choose(fault, _links(scene, fault)))
    yield


@contextlib.contextmanager
def link_down(scene: Scene, fault: Fault) -> Iterator[None]:
    """Set a link of a task's network down: it is set up again."""
    _ip("link", "set", _choose(fault, _links(scene, fault)), "down")
    yield


@contextlib.contextmanager
def foreign_link(scene: Scene, fault: Fault) -> Iterator[None]:
    """Put a link on the bridge that nobody knows."""
    name = f"chaos{fault.number}"
    _ip("link", "add", name, "type", "dummy")
    try:
        _ip("link", "set", name, "master", _bridge(scene, fault), "up")
        yield
    finally:
        _ip("link", "del", name)


@contextlib.contextmanager
def bridge_deleted(scene: Scene, fault: Fault) -> Iterator[None]:
    """Delete the bridge of task networks: it is made again."""
    _ip("link", "del", _bridge(scene, fault))
    yield


@contextlib.contextmanager
def bridge_without_address(scene: Scene, fault: Fault) -> Iterator[None]:
    """Take the bridge's address: it is given again."""
    _ip("addr", "flush", "dev", _bridge(scene, fault))
    yield


@contextlib.contextmanager
def table_deleted(scene: Scene, fault: Fault) -> Iterator[None]:
    """Delete a firewall table of an agent: it is made again."""
    del scene
    tables = [
        line.removeprefix("table ")
        for line in _output("nft", "list", "tables").splitlines()
        if " ecs_test_" in line
    ]
    subprocess.run(["nft", "delete", "table", *_choose(fault, tables).split()], check=False)
    yield


@contextlib.contextmanager
def rules_flushed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Empty the chain of the engine's that is for others: ours are put back."""
    del scene, fault
    subprocess.run(["iptables", "-w", "5", "-F", "DOCKER-USER"], check=False, capture_output=True)
    yield


@contextlib.contextmanager
def forwarding_off(scene: Scene, fault: Fault) -> Iterator[None]:
    """Forbid this host to forward: it is allowed again."""
    del scene, fault
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    yield


@contextlib.contextmanager
def socket_removed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Remove an agent's operator socket: it is made again."""
    scene.world.agent(_agent(scene, fault)).socket.unlink(missing_ok=True)
    yield


@contextlib.contextmanager
def pause_image_removed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Remove the image of sandboxes: it is loaded again."""
    del scene, fault
    names = run_docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    for name in names:
        if name.startswith("ecs-host-agent/pause"):
            run_docker("rmi", "-f", name)
    yield


@contextlib.contextmanager
def _told(scene: Scene) -> Iterator[None]:
    """Keep agents from losing their state until control was told of what happens meanwhile.

    What is removed is lost to the engine. If the agent lost its state before control has heard of it, nobody
    would know that the task has ever run.
    """
    with scene.one_loss:
        yield
        time.sleep(_NOTICED_S)
        for number in range(len(scene.world.agents)):
            scene.world.wait_settled(number, _TOLD_LIMIT_S)


def _hit(scene: Scene, fault: Fault, task: str) -> None:
    scene.excuses.hits[task].append(fault.kind)
    scene.history.note("hit", number=fault.number, task=task, kind=fault.kind)


def _choose(fault: Fault, found: Sequence[T]) -> T:
    if not found:
        raise Skip("there is none")
    return found[int(fault.chance * len(found))]


def _containers(*words: str) -> list[tuple[str, str]]:
    """Return the ids of tasks' containers, running ones unless asked otherwise, each with its task."""
    shown = [
        "--no-trunc",
        "--filter",
        f"label={TASK}",
        "--format",
        f'{{{{.ID}}}} {{{{.Label "{TASK}"}}}}',
    ]
    lines = run_docker("ps", *shown, *words, limit_s=20.0).splitlines()
    found = [(line.split()[0], line.split()[1]) for line in lines if len(line.split()) == 2]
    return sorted(found)


def _sandbox(fault: Fault) -> tuple[str, str]:
    """Return a container whose network others use, and the task of these."""
    containers = dict(_containers())
    found = []
    for told in inspect(containers):
        mode = str(_part(told, "HostConfig", "NetworkMode"))
        if mode.startswith(_SANDBOXED):
            found.append((mode.removeprefix(_SANDBOXED), containers[str(told["Id"])]))
    return _choose(fault, sorted(found))


def _part(told: Any, *path: str) -> Any:
    for name in path:
        told = told[name]
    return told


def _agent(scene: Scene, fault: Fault) -> int:
    return fault.number % len(scene.world.agents)


def _bridge(scene: Scene, fault: Fault) -> str:
    return scene.world.agent(_agent(scene, fault)).environment["ECS_TASK_BRIDGE"]


def _links(scene: Scene, fault: Fault) -> list[str]:
    told = _output("ip", "-j", "link", "show", "master", _bridge(scene, fault))
    return sorted(link["ifname"] for link in json.loads(told or "[]"))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=False, capture_output=True, timeout=30)


def _output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout

"""What containers of one awsvpc task see of what each of them asked for."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register, run
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}


def look(container_id: str, *command: str) -> str:
    done = subprocess.run(
        ["docker", "exec", container_id, *command], capture_output=True, text=True, check=True
    )
    return done.stdout


def resolvers(container_id: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in look(container_id, "cat", "/etc/resolv.conf").splitlines():
        word, *rest = line.split() or [""]
        found.setdefault(word, []).extend(rest)
    return {word: found[word] for word in ("nameserver", "search") if word in found}


def test_name_servers_and_search_domains_are_each_containers_own(
    shared_host: Fleet, busybox_image: str
) -> None:
    client, agent = shared_host.client(), shared_host.agents[0]
    wishes: list[dict[str, Any]] = [
        {"dnsServers": ["192.0.2.53", "192.0.2.54"], "dnsSearchDomains": ["a.example"]},
        {"dnsSearchDomains": ["b.example", "c.example"], "user": "1000"},
        {"dnsServers": ["192.0.2.99"], "readonlyRootFilesystem": True},
        {},
    ]
    definition = register(
        client, busybox_image, *["exec sleep 1000"] * 4, mode="awsvpc", containers=wishes
    )
    (arn,) = run(client, definition, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    ids = {c["name"]: c["runtimeId"] for c in describe(client, arn)[0]["containers"]}
    plain = resolvers(ids["c3"])
    assert resolvers(ids["c0"]) == {
        "nameserver": ["192.0.2.53", "192.0.2.54"],
        "search": ["a.example"],
    }
    assert resolvers(ids["c1"]) == {**plain, "search": ["b.example", "c.example"]}
    assert resolvers(ids["c2"]) == {**plain, "nameserver": ["192.0.2.99"]}
    with pytest.raises(subprocess.CalledProcessError):
        look(ids["c2"], "sh", "-c", "echo x >> /etc/resolv.conf")
    look(ids["c0"], "sh", "-c", "echo nameserver 192.0.2.1 > /etc/resolv.conf")
    assert resolvers(ids["c3"]) == plain, "what one writes, the others do not read"
    addresses = {look(i, "ip", "-4", "-o", "addr", "show", "eth0").split()[3] for i in ids.values()}
    assert len(addresses) == 1, "they share the network nevertheless"

    files = shared_host.directory / f"{agent.name}-data/resolv"
    assert len(list(files.iterdir())) == 3
    client.stop_task(task=arn)
    eventually(agent.has_no_tasks, what="the task is forgotten")
    assert list(files.iterdir()) == []


def test_kernel_parameters_of_the_network_are_set_where_all_of_the_task_see_them(
    shared_host: Fleet, busybox_image: str
) -> None:
    client = shared_host.client()
    controls = [{"namespace": "net.core.somaxconn", "value": "77"}]
    definition = register(
        client,
        busybox_image,
        "exec sleep 1000",
        "exec sleep 1000",
        mode="awsvpc",
        containers=[{"systemControls": controls}],
    )
    (arn,) = run(client, definition, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    for container in describe(client, arn)[0]["containers"]:
        assert look(container["runtimeId"], "cat", "/proc/sys/net/core/somaxconn").strip() == "77"


def test_a_container_without_a_network_has_none(shared_host: Fleet, busybox_image: str) -> None:
    client = shared_host.client()
    definition = register(
        client,
        busybox_image,
        "exec sleep 1000",
        "exec sleep 1000",
        mode="awsvpc",
        containers=[{"disableNetworking": True}],
    )
    (arn,) = run(client, definition, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    cut_off, joined = (c["runtimeId"] for c in describe(client, arn)[0]["containers"])
    assert look(cut_off, "ls", "/sys/class/net").split() == ["lo"]
    assert sorted(look(joined, "ls", "/sys/class/net").split()) == ["eth0", "lo"]

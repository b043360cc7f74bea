"""Tasks on two hosts reach each other by their addresses, and a host that leaves is forgotten."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, register
from tests.integration.e2e.two_hosts import (
    IPV6,
    SERVE,
    Task,
    World,
    address_of,
    name_of,
    network,
    reached,
    two_hosts,
)
from tests.support.fleet import Agent, eventually
from tests.support.images import LINGER
from tests.support.second_host import FIRST, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
UNUSED = "10.208.3.7"
"""In the network of the fleet, but of no host."""
BY_IPV6, UNUSED_BY_IPV6 = "fd00:208::/56", "fd00:208:0:3::7"
"""The network of the fleet of IPv6, and an address as above."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, busybox_image: str) -> Iterator[World]:
    """Control and an agent on this host, and an agent on the second; both know each other."""
    directory = tmp_path_factory.mktemp("fleet-network")
    with two_hosts(directory, busybox_image, "--fleet-range", "10.208.0.0/22") as made:
        yield made


def test_tasks_reach_each_other_with_their_own_addresses(world: World) -> None:
    first, second = world.agents
    pools = [network(agent)["pools"][0]["cidr"] for agent in world.agents]
    assert sorted(pools) == ["10.208.0.0/24", "10.208.1.0/24"]
    (peer,) = reached(first)
    assert (peer["range"], peer["address"], peer["driver"]) == (pools[1], SECOND, "routes")

    here, there = world.start(first, SERVE), world.start(second, SERVE)
    assert here.address.rpartition(".")[0] == pools[0].rpartition(".")[0]
    # The default group lets in its members alone: control has told each host those of the other.
    assert eventually(lambda: world.asks(second, there, here)) == name_of(here)
    assert eventually(lambda: world.asks(first, here, there)) == name_of(there)
    eventually(
        lambda: world.has_seen(first, here, there.address),
        what="the task on the other host is seen",
    )
    eventually(lambda: world.has_seen(second, there, here.address), what="so is this one there")

    ec2 = world.fleet.client("ec2")
    shut = ec2.create_security_group(GroupName="shut", Description="lets nobody in")["GroupId"]
    closed = world.start(first, SERVE, shut)
    assert not world.asks(second, there, closed)
    members = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=shut,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
             "UserIdGroupPairs": [{"GroupId": members}]}
        ],
    )  # fmt: skip
    assert eventually(lambda: world.asks(second, there, closed)) == name_of(closed)

    # So does a program of a host, such as the ingress, with the first address of the host's range.
    beyond = world.start(second, SERVE, shut)
    bridged = world.start(first, LINGER[-1], mode="bridge")
    assert not host_asks(beyond)
    assert not world.asks(first, bridged, beyond)
    source = pools[0].replace("0/24", "1/32")
    ec2.authorize_security_group_ingress(
        GroupId=shut, IpProtocol="tcp", FromPort=80, ToPort=80, CidrIp=source
    )
    assert eventually(lambda: host_asks(beyond)) == name_of(beyond)
    # So do containers in bridge mode, which have no address that other hosts know.
    assert eventually(lambda: world.asks(first, bridged, beyond)) == name_of(beyond)
    own = pools[0].replace("0/24", "1")
    eventually(lambda: world.has_seen(second, beyond, own), what="the address of its host")


def host_asks(task: Task) -> str:
    """Return what a task answers to this host; empty if it does not."""
    line = f"busybox timeout 3 busybox wget -q -O - http://{task.address}/"
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
    return done.stdout.strip()


def test_tasks_on_every_host_find_services_by_name(world: World) -> None:
    first, second = world.agents
    client, names = world.fleet.client(), world.fleet.client("servicediscovery")
    here, there = world.start(first, LINGER[-1]), world.start(second, LINGER[-1])
    bridged = world.start(first, LINGER[-1], mode="bridge")
    asking = [(first, here), (second, there), (first, bridged)]

    def is_so(look: Callable[[], set[str]], wanted: set[str]) -> bool:
        return look() == wanted

    def answers(name: str, *wanted: str) -> None:
        """Wait until all tasks get these addresses."""
        for agent, task in asking:
            look = partial(world.resolved, agent, task.container, name)
            eventually(partial(is_so, look, {*wanted}), what=f"{name} for {task}", shown=look)

    names.create_private_dns_namespace(Name="shop.internal", Vpc="any")
    (space,) = names.list_namespaces()["Namespaces"]

    def registry(name: str) -> dict[str, Any]:
        created = names.create_service(
            Name=name,
            NamespaceId=space["Id"],
            DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 1}]},
            HealthCheckCustomConfig={"FailureThreshold": 1},
        )
        return dict(created["Service"])

    web, db = registry("web"), registry("db")
    definition = register(client, world.image, SERVE, mode="awsvpc")
    client.create_service(
        serviceName="web",
        taskDefinition=definition,
        desiredCount=2,
        networkConfiguration=NETWORK,
        serviceRegistries=[{"registryArn": web["Arn"]}],
    )

    def addresses(count: int) -> list[str]:
        """Return the addresses of the service's tasks, once there are so many."""

        def found() -> list[str] | None:
            arns = client.list_tasks(serviceName="web")["taskArns"]
            running = [t for t in describe(client, *arns) if t["lastStatus"] == "RUNNING"]
            there = [address_of(task) for task in running]
            return there if len(there) == len(arns) == count else None

        return list(eventually(found, what=f"{count} tasks run"))

    answers("web.shop.internal", *addresses(2))
    client.update_service(service="web", desiredCount=1)
    (last,) = addresses(1)
    answers("web.shop.internal", last)
    by_name = Task("", "web.shop.internal", "")
    for agent, task in asking[:2]:
        shown = eventually(partial(world.asks, agent, task, by_name))
        assert shown == name_of(Task("", last, ""))

    for id_ in ("192.0.2.21", "192.0.2.22"):
        names.register_instance(
            ServiceId=db["Id"], InstanceId=id_, Attributes={"AWS_INSTANCE_IPV4": id_}
        )
    answers("db.shop.internal", "192.0.2.21", "192.0.2.22")
    began = time.monotonic()
    names.update_instance_custom_health_status(
        ServiceId=db["Id"], InstanceId="192.0.2.21", Status="UNHEALTHY"
    )
    answers("db.shop.internal", "192.0.2.22")
    print(f"the health of an instance was seen within {time.monotonic() - began:.2f} s")  # noqa: T201
    subprocess.run(["nft", "delete", "table", "inet", "ecs_test_0_names"], check=True)
    answers("db.shop.internal", "192.0.2.22")

    client.delete_service(service="web", force=True)
    answers("web.shop.internal")


def test_services_reach_each_other_by_service_connect(world: World) -> None:
    first, second = world.agents
    client = world.fleet.client()
    client.update_cluster(cluster="default", serviceConnectDefaults={"namespace": "mesh"})
    ports = [{"portMappings": [{"containerPort": 80, "name": "http"}]}]
    serving = register(client, world.image, SERVE, mode="awsvpc", containers=ports)
    alias = {"portName": "http", "clientAliases": [{"port": 8000, "dnsName": "front"}]}
    for name, definition, config in (
        ("front", serving, {"enabled": True, "services": [alias]}),
        ("asker", register(client, world.image, LINGER[-1], mode="awsvpc"), {"enabled": True}),
    ):
        client.create_service(
            serviceName=name,
            taskDefinition=definition,
            schedulingStrategy="DAEMON",
            networkConfiguration=NETWORK,
            serviceConnectConfiguration=config,
        )

    def running(service: str) -> list[dict[str, Any]] | None:
        arns = client.list_tasks(serviceName=service)["taskArns"]
        found = [t for t in describe(client, *arns) if t["lastStatus"] == "RUNNING"] if arns else []
        return found if len(found) == len(world.agents) else None

    fronts = list(eventually(partial(running, "front"), what="one on each host"))
    wanted = {address_of(task) for task in fronts}

    def by_host(tasks: list[dict[str, Any]]) -> dict[str, Task]:
        return {
            one["containerInstanceArn"]: Task(
                one["taskArn"], address_of(one), one["containers"][0]["runtimeId"]
            )
            for one in tasks
        }

    askers = by_host(eventually(partial(running, "asker"), what="one on each host"))
    by_name = Task("", "front:8000", "")

    def leads_to(look: Callable[[], set[str]], addresses: set[str]) -> bool:
        return look() == addresses

    for agent in (first, second):
        asker = askers[world.instance(agent)]
        look = partial(world.resolved, agent, asker.container, "front")
        eventually(partial(leads_to, look, wanted), what="front", shown=look)
        shown = eventually(partial(world.asks, agent, asker, by_name))
        assert shown in {name_of(Task("", each, "")) for each in wanted}
    own = by_host(fronts)[world.instance(first)]
    itself = Task("", f"{own.address}:8000", "")
    assert eventually(partial(world.asks, first, own, itself)) == name_of(own)
    outside = world.start(first, LINGER[-1])
    assert world.resolved(first, outside.container, "front") == set(), "only for services"

    client.stop_task(task=fronts[0]["taskArn"])
    left = address_of(fronts[1])
    asker = askers[world.instance(second)]
    look = partial(world.resolved, second, asker.container, "front")
    eventually(lambda: address_of(fronts[0]) not in look(), what="the stopped one is gone")
    assert left in look()
    for name in ("front", "asker"):
        client.delete_service(service=name, force=True)
    names = world.fleet.client("servicediscovery")
    eventually(
        lambda: "http" not in {one["Name"] for one in names.list_services()["Services"]},
        what="the name is gone with its service",
    )


def test_an_address_of_no_host_is_dropped_and_leads_nowhere(world: World) -> None:
    first, _ = world.agents
    switch = world.hosts.switch
    task = world.start(first, SERVE)
    for line in (
        f"ip addr add {UNUSED}/32 dev lan",
        f"ip route add 10.208.0.0/22 via {FIRST} src {UNUSED}",
    ):
        switch.sh(line)
    # It asks for the address of this host as itself: nobody answers an address that is unreachable.
    switch.sh(f"busybox ping -c 1 -W 2 -I 192.0.2.9 {FIRST}")
    switch.sh(f"busybox timeout 3 busybox wget -q -O - http://{task.address}/", check=False)
    (rule,) = [
        r for r in network(first)["rules"] if r["rule"].startswith("a task's address of another")
    ]
    assert rule["packets"]
    line = f"docker exec {task.container} ping -c 1 -W 2 {UNUSED}"
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert (
        "unreachable"
        in subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    )


def test_what_others_change_is_repaired(world: World) -> None:
    first, _ = world.agents
    (peer,) = reached(first)
    subprocess.run(["ip", "route", "del", peer["range"]], check=True)
    eventually(lambda: route_to(peer["range"]), within_s=5, what="the route is back")
    subprocess.run(["ip", "link", "set", "lan0", "down"], check=True)
    assert not route_to(peer["range"])
    subprocess.run(["ip", "link", "set", "lan0", "up"], check=True)
    eventually(lambda: route_to(peer["range"]), within_s=5, what="the route is back again")
    check = json.loads(first.cli("network", "check", "--json"))
    assert not check["differences"]


def test_a_fleet_gets_ipv6_while_tasks_run(world: World) -> None:
    first, second = world.agents
    before, control = world.start(first, SERVE), world.fleet.control
    # A link that was down has lost it.
    subprocess.run(f"ip addr replace {IPV6[0]}/64 dev lan0 nodad".split(), check=True)
    assert not before.ipv6
    control.stop()
    control.arguments += ["--fleet-ipv6-range", BY_IPV6]
    control.start()
    control.ready()

    def has_ipv6(agent: Agent) -> list[str]:
        """Return the IPv6 ranges of the other host, once both have one."""
        pools = [each["cidr"] for each in network(agent).get("pools", ())]
        ranges = [peer["ipv6Range"] for peer in reached(agent) if peer["ipv6Range"]]
        return ranges if any(":" in cidr for cidr in pools) else []

    ranges = [
        eventually(partial(has_ipv6, agent), what="IPv6", shown=agent.tail)[0]
        for agent in world.agents
    ]
    assert sorted(ranges) == ["fd00:208:0:1::/64", "fd00:208::/64"]
    world.fleet.wait_connected()
    here, there = world.start(first, SERVE), world.start(second, SERVE)
    for asking, asked, on, at in ((there, here, second, first), (here, there, first, second)):
        shown = eventually(partial(world.asks, on, asking, asked, ipv6=True))
        assert shown == name_of(asked)
        eventually(partial(world.has_seen, at, asked, asking.ipv6), what="its own IPv6 address")
    assert eventually(lambda: world.asks(second, there, before)) == name_of(before)

    ec2 = world.fleet.client("ec2")
    shut = ec2.create_security_group(GroupName="shut6", Description="lets IPv6 in")["GroupId"]
    closed = world.start(first, SERVE, shut)
    assert not world.asks(second, there, closed, ipv6=True)
    permission = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}
    ec2.authorize_security_group_ingress(
        GroupId=shut, IpPermissions=[{**permission, "Ipv6Ranges": [{"CidrIpv6": ranges[0]}]}]
    )
    shown = eventually(partial(world.asks, second, there, closed, ipv6=True))
    assert shown == name_of(closed)
    assert not world.asks(second, there, closed), "the rule is of IPv6 alone"

    # A host of nobody's range is no task, and a route that somebody removes comes back.
    switch = world.hosts.switch
    for line in (
        f"ip addr add {UNUSED_BY_IPV6}/128 dev lan nodad", "ip addr add 2001:db8::9/64 dev lan nodad",
        f"ip route add {BY_IPV6} via 2001:db8::1 src {UNUSED_BY_IPV6}",
    ):  # fmt: skip
        switch.sh(line)
    switch.sh("busybox ping6 -c 1 -W 2 -I 2001:db8::9 2001:db8::1")
    switch.sh(f"busybox timeout 3 busybox wget -q -O - http://[{here.ipv6}]/", check=False)
    rule = "a task's IPv6 address of another"
    (counted,) = [r for r in network(first)["rules"] if r["rule"].startswith(rule)]
    assert counted["packets"]
    subprocess.run(["ip", "-6", "route", "del", ranges[0]], check=True)
    eventually(lambda: route_to(ranges[0]), within_s=5, what="the route is back")
    check = json.loads(first.cli("network", "check", "--json"))
    assert not check["differences"]

    only_ipv6_on_the_second_host(world, here)


def only_ipv6_on_the_second_host(world: World, here: Task) -> None:
    """Start the second host's agent anew for tasks with IPv6 alone, and have one reach the first host's."""
    first, second = world.agents
    client = world.fleet.client()
    instance = world.instance(second)
    for arn in client.list_tasks(containerInstance=instance)["taskArns"]:
        client.stop_task(task=arn)
    eventually(second.has_no_tasks, what="the second host is empty")
    second.stop()
    of_both = dict(second.environment)
    second.environment |= {
        "ECS_TASK_POOL_CIDR": "none", "ECS_TASK_POOL_IPV6_CIDR": "fd00:999::/64",
    }  # fmt: skip
    second.start()
    eventually(lambda: reached(second), what="its agent has a range, and reaches the first host")
    there = world.start(second, SERVE)
    assert not there.address
    assert ip_address(there.ipv6) in ip_network(BY_IPV6)
    assert eventually(partial(world.asks, first, here, there, ipv6=True))
    assert eventually(partial(world.asks, second, there, here, ipv6=True)) == name_of(here)
    client.stop_task(task=there.arn)
    eventually(second.has_no_tasks, what="the second host is empty")
    second.stop()
    second.environment = of_both
    second.start()
    eventually(lambda: reached(second), what="its agent has both ranges again")
    eventually(lambda: reached(first)[0]["range"], what="the first host knows both")


def test_a_host_that_leaves_is_forgotten_at_once(world: World) -> None:
    first, second = world.agents
    (peer,) = reached(first)
    client = world.fleet.client()
    began = time.monotonic()
    client.deregister_container_instance(containerInstance=world.instance(second), force=True)
    eventually(lambda: not route_to(peer["range"]), within_s=5, what="the route is gone")
    print(f"forgotten within {time.monotonic() - began:.2f} s")  # noqa: T201
    assert not reached(first)
    eventually(lambda: not second.is_alive(), what="its agent ends")
    world.fleet.agents.remove(second)


def route_to(network: str) -> str:
    family = "-6" if ":" in network else "-4"
    done = subprocess.run(
        ["ip", family, "route", "show", "exact", network],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout

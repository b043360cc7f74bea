"""Tasks with the driver ``ipvlan``, in L2 and in L3 mode, on a booted host: the kernels of test machines lack it.

One story on one VM, with a router in a namespace on the parent's network: run the whole file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.network.addresses import link_name_of
from tests.vm.one_host import (
    ASK,
    CONFIG,
    IMAGE,
    PAGE,
    START_LIMIT_S,
    compile_ahead,
    install,
    join,
    make_image,
    operator_of,
    wait_until_connected,
)
from tests.vm.operator import address

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.machine import Vm
    from tests.vm.operator import Operator

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

HOST, ROUTER, BEHIND = "192.0.2.2", "192.0.2.1", "198.51.100.1"
FOREIGN = "192.0.2.250"
"""An address that no task has; the router would take it from anybody."""
WEB = ["sh", "-c", "exec httpd -f -p 80 -h /www"]
WIRE = f"""
ip netns add router
ip link add lan0 type veth peer name lan netns router
ip addr add {HOST}/24 dev lan0
ip addr add 2001:db8::2/64 dev lan0 nodad
ip link set lan0 up
ip -n router link set lo up
ip -n router addr add {BEHIND}/32 dev lo
ip -n router addr add {ROUTER}/24 dev lan
ip -n router addr add 2001:db8::1/64 dev lan nodad
ip -n router link set lan up
ip -n router route add 10.40.7.0/24 via {HOST}
ip -n router -6 route add 2001:db8:7::/64 via 2001:db8::2
ip netns exec router nft add table inet t
ip netns exec router nft add chain inet t c '{{ type filter hook prerouting priority -400 ; }}'
ip netns exec router nft add rule inet t c iifname lan ip saddr {FOREIGN} counter
"""
L2 = f"""ECS_TASK_NETWORK_DRIVER=ipvlan
ECS_TASK_NETWORK_PARENT=lan0
ECS_TASK_NETWORK_GATEWAY={ROUTER}
ECS_TASK_NETWORK_IPV6_GATEWAY=2001:db8::1
ECS_TASK_POOL_CIDR=192.0.2.64/26
ECS_TASK_POOL_IPV6_CIDR=2001:db8::7:0/112
ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=1s
"""
L3 = """ECS_TASK_NETWORK_DRIVER=ipvlan-l3
ECS_TASK_NETWORK_PARENT=lan0
ECS_TASK_POOL_CIDR=10.40.7.0/24
ECS_TASK_POOL_IPV6_CIDR=2001:db8:7::/64
ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=1s
ECS_IMAGE_PULL_BEHAVIOR=prefer-cached
"""


@pytest.fixture
def operator(host: Vm) -> Operator:
    return operator_of(host)


class Task:
    """A running task that serves a page."""

    def __init__(self, host: Vm, operator: Operator) -> None:
        self.host = host
        self.told = operator.launch("web")
        self.arn = str(self.told["taskArn"])
        self.ipv4 = address(self.told)
        details = {d["name"]: d["value"] for d in self.told["attachments"][0]["details"]}
        self.ipv6 = str(details["privateIPv6Address"])
        self.container = str(self.told["containers"][0]["runtimeId"])

    def does(self, line: str) -> str:
        """Return what a command prints in its container."""
        return self.host.out(f"docker exec {self.container} {line}")

    def inside(self, line: str, *, check: bool = True) -> str:
        """Return what a command of the host prints in its network namespace."""
        pid = self.host.out(f"docker inspect --format '{{{{.State.Pid}}}}' {self.container}")
        return self.host.run(f"nsenter -t {pid} -n {line}", check=check).out

    def reaches(self, url: str) -> str:
        return self.does(f"timeout 20 wget -q -O - {url}")


def serves_everybody(host: Vm, one: Task, other: Task) -> None:
    """Fail unless the router, this host and another task reach a task, and it reaches them."""
    for target in (one.ipv4, f"[{one.ipv6}]"):
        url = f"http://{target}/"
        asked = f"ip netns exec router timeout 20 busybox wget -q -O - {url}"
        assert host.out(asked) == PAGE, url
        assert other.reaches(url) == PAGE, url
    assert host.out(f"timeout 20 busybox wget -q -O - http://{one.ipv4}/") == PAGE
    one.does(f"ping -c 1 -W 10 {BEHIND}")
    one.does("ping6 -c 1 -W 10 2001:db8::1")
    told = json.loads(one.does("sh -c 'wget -q -O - $ECS_CONTAINER_METADATA_URI_V4'"))
    assert told["Networks"][0]["IPv4Addresses"] == [one.ipv4]


def forged(host: Vm, task: Task) -> tuple[bool, bool]:
    """Return whether what a task sends with another's address was dropped in it, and reached the router.

    Its namespace is entered from the host, because an ordinary container cannot add an address.
    """
    task.inside(f"ip addr add {FOREIGN}/32 dev eth0")
    task.inside(f"busybox ping -c 2 -W 2 -I {FOREIGN} {ROUTER}", check=False)
    task.inside(f"ip addr del {FOREIGN}/32 dev eth0")
    rules = json.loads(task.inside("nft -j list table netdev ecs_task"))["nftables"]
    counters = [
        each["counter"]["packets"]
        for rule in rules
        for each in rule.get("rule", {}).get("expr", ())
        if "counter" in each
    ]
    arrived = "packets 0 " not in host.out("ip netns exec router nft list table inet t")
    return any(counters), arrived


def network(host: Vm) -> dict[str, Any]:
    return dict(json.loads(host.out(f"{ASK}/network")))


def all_gone(host: Vm, operator: Operator, *tasks: Task) -> None:
    """Stop tasks, and return once their links are gone."""
    for task in tasks:
        operator.stop(task.arn)
    for task in tasks:
        operator.wait_stopped(task.arn)
        host.until(f"! ip link show {link_name_of(task.ipv4)}")


def test_in_l2_mode_a_task_is_on_the_network_of_its_host(
    host: Vm, package: Path, compiled: Path | None
) -> None:
    compile_ahead(host, compiled)
    install(host, package)
    make_image(host)
    host.run(WIRE)
    host.put(L2, CONFIG)
    join(host)
    operator = operator_of(host)
    operator.define("web", IMAGE, WEB, mode="awsvpc")
    one, other = Task(host, operator), Task(host, operator)
    serves_everybody(host, one, other)
    # The switch sees the MAC address of the host alone.
    own = json.loads(host.out("ip -j link show lan0"))[0]["address"]
    known = json.loads(host.out("ip netns exec router ip -j neigh show dev lan"))
    assert {n["lladdr"] for n in known if n["dst"] in (one.ipv4, other.ipv4)} == {own}
    kind = json.loads(one.inside("ip -d -j link show eth0"))[0]["linkinfo"]
    assert (kind["info_kind"], kind["info_data"]["mode"]) == ("ipvlan", "l2")
    assert forged(host, one) == (True, False)
    assert not network(host)["problems"]

    host.run("systemctl restart ecs-agent", timeout_s=START_LIMIT_S)
    wait_until_connected(host)
    serves_everybody(host, one, other)
    all_gone(host, operator, one, other)


def test_in_l3_mode_it_is_behind_its_host(host: Vm, operator: Operator) -> None:
    endpoint = host.out(f"grep -E 'CONTROL|TOKEN' {CONFIG} || true")
    host.run("systemctl stop ecs-agent", timeout_s=START_LIMIT_S)
    host.put(f"{L3}{endpoint}\n", CONFIG)
    host.run("systemctl start ecs-agent", timeout_s=START_LIMIT_S)
    wait_until_connected(host)
    one, other = Task(host, operator), Task(host, operator)
    assert (one.ipv4[:8], one.ipv6[:11]) == ("10.40.7.", "2001:db8:7:")
    serves_everybody(host, one, other)
    kind = json.loads(one.inside("ip -d -j link show eth0"))[0]["linkinfo"]
    assert (kind["info_kind"], kind["info_data"]["mode"]) == ("ipvlan", "l3")
    assert forged(host, one) == (True, False)
    all_gone(host, operator, one, other)

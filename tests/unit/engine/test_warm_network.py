"""Which containers join a ready sandbox, and what becomes of their create body."""

from __future__ import annotations

from typing import Any

import pytest

from agent.engine import warm_network
from agent.model.payload import PortMapping, RestartPolicy
from tests.support.tasks import container, payload

BINDINGS = {"80/tcp": [{"HostPort": "80"}]}


def body(
    mode: str = "bridge", host_config: dict[str, Any] | None = None, **config: Any
) -> dict[str, Any]:
    return {"Image": "i", "HostConfig": {"NetworkMode": mode, **(host_config or {})}, **config}


def why_not(given: dict[str, Any], mode: str = "bridge") -> str:
    return warm_network.why_not(given, mode, {})


def test_a_plain_container_joins_with_everything_but_its_network() -> None:
    given = body(host_config={"Memory": 5, "Privileged": True, "PortBindings": {}}, Env=["A=b"])

    assert not why_not(given)
    assert warm_network.joined(given, "abc") == {
        "Image": "i",
        "Env": ["A=b"],
        "HostConfig": {"NetworkMode": "container:abc", "Memory": 5, "Privileged": True},
    }


@pytest.mark.parametrize("mode", ["host", "none", "container:x", "mine", None])
def test_other_networks_are_left_to_the_engine(mode: str | None) -> None:
    assert "network mode" in why_not({"HostConfig": {"NetworkMode": mode}})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (body(Hostname="h"), "hostname"),
        (body(domainname="d"), "domain name"),
        (body(MacAddress="m"), "MAC address"),
        (body(NetworkDisabled=True), "disableNetworking"),
        (body(NetworkingConfig={"EndpointsConfig": {}}), "networks of the engine"),
        (body(host_config={"ExtraHosts": ["a:1.2.3.4"]}), "extraHosts"),
        (body(host_config={"dns": ["1.2.3.4"]}), "dnsServers"),
        (body(host_config={"DnsSearch": ["a"]}), "dnsSearchDomains"),
        (body(host_config={"DnsOptions": ["a"]}), "name servers"),
        (body(host_config={"Links": ["a:b"]}), "links"),
        (body(host_config={"UTSMode": "host"}), "UTS mode"),
        (body(host_config={"UsernsMode": "host"}), "user namespace"),
        (body(host_config={"Runtime": "runsc"}), "runtime"),
        (body(host_config={"Sysctls": {"net.ipv4.ip_forward": "1"}}), "kernel parameters"),
        (body(host_config={"sysctls": ["odd"]}), "kernel parameters"),
    ],
)
def test_what_only_the_engine_can_give_is_named(given: dict[str, Any], reason: str) -> None:
    assert reason in why_not(given)


def test_kernel_parameters_of_other_namespaces_stay() -> None:
    given = body(host_config={"Sysctls": {"kernel.msgmax": "1"}})

    assert not why_not(given)
    assert warm_network.joined(given, "s")["HostConfig"]["Sysctls"] == {"kernel.msgmax": "1"}


def test_ports_that_the_sandbox_publishes_are_not_asked_for_again() -> None:
    given = body("bridge", {"PortBindings": BINDINGS}, ExposedPorts={"80/tcp": {}})

    assert not warm_network.why_not(given, "bridge", BINDINGS)
    assert warm_network.joined(given, "s") == {
        "Image": "i", "HostConfig": {"NetworkMode": "container:s"}
    }  # fmt: skip


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"PortBindings": {**BINDINGS, "81/tcp": [{"HostPort": "81"}]}},
        {"PortBindings": {"80/tcp": [{"HostPort": "80", "HostIp": "127.0.0.1"}]}},
        {"portbindings": [1]},
        {"PortBindings": BINDINGS, "PublishAllPorts": True},
    ],
)
def test_ports_that_the_definition_gives_the_engine_are_left_to_it(own: dict[str, Any]) -> None:
    assert "published ports" in warm_network.why_not(body("bridge", own), "bridge", BINDINGS)


@pytest.mark.parametrize(
    ("mode", "given", "reason"),
    [
        ("awsvpc", {}, "network mode awsvpc"),
        ("none", {}, "network mode none"),
        ("host", {}, "network mode host"),
        (
            "bridge",
            {"port_mappings": [PortMapping(container_port=80, host_port=80)]},
            "certain port",
        ),
        ("bridge", {"restart_policy": RestartPolicy(enabled=True)}, "restart policy"),
        (
            "bridge",
            {"firelens_configuration": {"type": "fluentd"}},
            "log through it",
        ),
    ],
)
def test_what_its_task_keeps_from_joining(mode: str, given: dict[str, Any], reason: str) -> None:
    own = container("a", **given)
    task = payload(own, network_mode=mode)
    assert reason in warm_network.why_not_in_task(task, task.containers[0])


def test_a_container_that_others_link_to_stays_where_they_find_it() -> None:
    task = payload(container("a"), container("b", links=["a:db"]), network_mode="bridge")
    a, b = task.containers

    assert warm_network.why_not_in_task(task, a) == "links to it"
    assert warm_network.why_not_in_task(task, b) == "", "its own body says that it has links"


def test_ports_that_the_agent_may_choose_and_no_ports_do_not_matter() -> None:
    mappings = [
        PortMapping(container_port=80),
        PortMapping(container_port_range="8000-8002", protocol="udp"),
    ]
    task = payload(container("a", port_mappings=mappings), container("b"), network_mode="bridge")

    assert [warm_network.why_not_in_task(task, each) for each in task.containers] == ["", ""]

"""Which containers join a ready sandbox, and what becomes of their create body."""

from __future__ import annotations

from typing import Any

import pytest

from agent.engine import warm_network


def body(
    mode: str = "none", host_config: dict[str, Any] | None = None, **config: Any
) -> dict[str, Any]:
    return {"Image": "i", "HostConfig": {"NetworkMode": mode, **(host_config or {})}, **config}


def test_a_plain_container_joins_with_everything_but_its_network() -> None:
    given = body(host_config={"Memory": 5, "Privileged": True, "PortBindings": {}}, Env=["A=b"])

    assert not warm_network.why_not(given)
    assert warm_network.joined(given, "abc") == {
        "Image": "i",
        "Env": ["A=b"],
        "HostConfig": {"NetworkMode": "container:abc", "Memory": 5, "Privileged": True},
    }


@pytest.mark.parametrize("mode", ["host", "container:x", "mine", None])
def test_other_networks_are_left_to_the_engine(mode: str | None) -> None:
    assert "network mode" in warm_network.why_not({"HostConfig": {"NetworkMode": mode}})


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
    assert reason in warm_network.why_not(given)


def test_kernel_parameters_of_other_namespaces_stay() -> None:
    given = body(host_config={"Sysctls": {"kernel.msgmax": "1"}})

    assert not warm_network.why_not(given)
    assert warm_network.joined(given, "s")["HostConfig"]["Sysctls"] == {"kernel.msgmax": "1"}

"""A task in awsvpc mode on an EC2 instance: its ENI is announced, arrives, and serves the task."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.backend import messages
from tests.integration.ecs.test_ec2 import backend, ec2_settings, imds
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backend.backend import Backend
    from tests.backend.imds import FakeImds
    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration

__all__ = ["backend", "imds"]

MAC = "06:ec:57:01:02:03"
DEVICE = "ecst-eni0"


def ip(line: str) -> str:
    return subprocess.run(
        ["ip", *line.split()], capture_output=True, text=True, check=True, timeout=10
    ).stdout


@pytest.fixture
def detach() -> Iterator[None]:
    yield
    for link in json.loads(ip("-j link")):
        if link.get("address") == MAC:
            ip(f"link del {link['ifname']}")


def on_host() -> list[str]:
    return [link["ifname"] for link in json.loads(ip("-j link")) if link.get("address") == MAC]


def in_task(host: Host, arn: str, *words: str) -> list[dict[str, Any]]:
    command = ["nsenter", "-t", str(host.pid(arn)), "-n", "ip", "-j", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    listed: list[dict[str, Any]] = json.loads(done.stdout)
    return listed


def test_a_task_runs_with_its_interface_over_a_crash_and_gives_it_back(
    backend: Backend, imds: FakeImds, fresh: Callable[..., Host], detach: None
) -> None:
    del detach
    host = fresh(backend, **ec2_settings(imds), ECS_WARM_SANDBOXES="0").start()
    [registration] = backend.journal.calls("RegisterContainerInstance")
    told = {a["name"]: a.get("value", "") for a in registration.request["attributes"]}
    assert {"ecs.capability.task-eni", "ecs.capability.task-eni.ipv6"} <= told.keys()
    assert told["ecs.vpc-id"] == "vpc-0123456789abcdef0"

    eni = messages.interface(MAC, ipv6Addresses=[{"address": "2001:db8::5"}])
    task = host.task(networkMode="awsvpc", elasticNetworkInterfaces=[eni])
    arn = task["arn"]
    backend.acs.wait_ack(
        backend.acs.order("AttachTaskNetworkInterfacesMessage", **messages.attach(eni, arn=arn))
    )
    backend.acs.wait_ack(host.order(task))
    ip(f"link add {DEVICE} address {MAC} mtu 9001 type veth peer name ecst-eni1")
    host.wait(arn, "RUNNING")
    eventually(
        lambda: [
            call
            for call in backend.journal.calls("SubmitTaskStateChange")
            if call.request.get("attachments")
            == [{"attachmentArn": eni["attachmentArn"], "status": "ATTACHED"}]
        ],
        what="the interface is reported",
    )
    [link] = in_task(host, arn, "addr", "show", "eth0")
    assert (link["address"], link["mtu"]) == (MAC, 9001)
    assert {"10.7.0.5", "2001:db8::5"} <= {a["local"] for a in link["addr_info"]}

    host.crash()
    host.start()
    assert in_task(host, arn, "route", "show", "default")[0]["gateway"] == "10.7.0.1"
    host.stop_task(arn)
    eventually(lambda: on_host() == ["eni06ec57010203"], what="the interface is back")
    assert not backend.problems()

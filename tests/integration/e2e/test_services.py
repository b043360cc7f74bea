"""A service with real processes and real containers, from its creation to its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, register
from tests.support.fleet import KEYS, Fleet, eventually, fleet
from tests.support.images import LINGER

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 450}
CHECKED = {
    "healthCheck": {"command": ["CMD", "true"], "interval": 5, "retries": 1, "startPeriod": 0}
}
"""Makes a task healthy after one interval, instead of after 40 s."""
BREAKER = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One control endpoint and two agents, for all tests of this module."""
    with fleet(tmp_path_factory.mktemp("services"), agents=2) as made:
        yield made


def revision(client: Any, image: str, command: str, family: str) -> str:
    return register(client, image, command, family=family, containers=[CHECKED])


def stable(client: Any, name: str) -> dict[str, Any]:
    client.get_waiter("services_stable").wait(services=[name], WaiterConfig=FAST)
    (service,) = client.describe_services(services=[name])["services"]
    return dict(service)


def completed(client: Any, name: str, *, within_s: float = 120) -> dict[str, Any]:
    """Return the service once its only deployment is completed."""

    def is_done() -> Any:
        (service,) = client.describe_services(services=[name])["services"]
        states = [deployment["rolloutState"] for deployment in service["deployments"]]
        return service if states == ["COMPLETED"] else None

    return dict(eventually(is_done, within_s=within_s, what=f"{name} is rolled out"))


def tasks(client: Any, name: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_tasks").paginate(serviceName=name)
    arns = [arn for page in pages for arn in page["taskArns"]]
    return describe(client, *arns) if arns else []


def test_a_service_lives_and_survives_the_death_of_control(
    two_hosts: Fleet, busybox_image: str
) -> None:
    client = two_hosts.client()
    linger = LINGER[-1]
    first = revision(client, busybox_image, linger, "shop")
    client.create_service(
        serviceName="shop", taskDefinition="shop", desiredCount=0, deploymentConfiguration=BREAKER
    )
    assert completed(client, "shop")["runningCount"] == 0

    client.update_service(service="shop", desiredCount=3)
    two_hosts.control.kill()
    two_hosts.control.start()
    two_hosts.control.ready()
    wait_with_cli(two_hosts, "shop")
    assert stable(client, "shop")["runningCount"] == 3
    assert len({task["containerInstanceArn"] for task in tasks(client, "shop")}) == 2
    assert completed(client, "shop")["taskDefinition"] == first

    # One of its containers dies: the task is replaced.
    victim = tasks(client, "shop")[0]
    subprocess.run(
        ["docker", "kill", victim["containers"][0]["runtimeId"]], check=True, capture_output=True
    )
    eventually(
        lambda: victim["taskArn"] not in {task["taskArn"] for task in tasks(client, "shop")},
        what="the dead task is noticed",
    )
    assert stable(client, "shop")["runningCount"] == 3

    # A new revision, and control dies in the middle of the roll-out.
    second = revision(client, busybox_image, f": second; {linger}", "shop")
    client.update_service(service="shop", taskDefinition=second)
    eventually(
        lambda: any(task["taskDefinitionArn"] == second for task in tasks(client, "shop")),
        what="the roll-out has begun",
    )
    two_hosts.control.kill()
    two_hosts.control.start()
    two_hosts.control.ready()
    rolled = completed(client, "shop")
    assert (rolled["taskDefinition"], rolled["runningCount"]) == (second, 3)
    assert {task["taskDefinitionArn"] for task in tasks(client, "shop")} == {second}

    # A broken one: the breaker opens and goes back.
    broken = revision(client, busybox_image, "exit 3", "shop")
    client.update_service(service="shop", taskDefinition=broken)
    eventually(
        lambda: any(
            "rolling back to deployment" in event["message"]
            for event in client.describe_services(services=["shop"])["services"][0]["events"]
        ),
        within_s=120,
        what="the breaker opens",
    )
    back = completed(client, "shop")
    assert (back["taskDefinition"], back["runningCount"]) == (second, 3)

    client.update_service(service="shop", desiredCount=1)
    assert stable(client, "shop")["runningCount"] == 1
    assert [p["serviceArns"] for p in client.get_paginator("list_services").paginate()] == [
        [back["serviceArn"]]
    ]
    client.delete_service(service="shop", force=True)
    client.get_waiter("services_inactive").wait(services=["shop"], WaiterConfig=FAST)
    eventually(
        lambda: all(agent.has_no_tasks() for agent in two_hosts.agents), what="all tasks are gone"
    )


def wait_with_cli(hosts: Fleet, name: str) -> None:
    """Wait as a pipeline does."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("aws")),
            *("--endpoint-url", hosts.control.url, "ecs", "wait", "services-stable"),
            *("--services", name),
        ],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **KEYS},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""Images that a registry does not give at once: what an operator sees meanwhile, and in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, register, run
from tests.support.fleet import eventually
from tests.support.shop import Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}
FOR_EVER = 1_000_000


@pytest.fixture
def shop(shared_host: Fleet) -> Iterator[Shop]:
    made = Shop()
    yield made
    shared_host.stop_tasks()
    made.close()


def only(client: Any, arn: str) -> dict[str, Any]:
    (container,) = describe(client, arn)[0]["containers"]
    found: dict[str, Any] = container
    return found


def test_a_pull_that_is_tried_again_is_seen_and_then_forgotten(
    shared_host: Fleet, shop: Shop
) -> None:
    client, agent_ = shared_host.client(), shared_host.agents[0]
    shop.registry.failures = FOR_EVER
    (arn,) = run(client, _without_command(client, shop.name))
    shown = eventually(lambda: only(client, arn).get("reason"), what="a reason")
    assert shown.startswith("CannotPullContainerError: Error response from daemon: ")
    assert only(client, arn)["lastStatus"] == "PENDING"
    task = describe(client, arn)[0]
    assert (task["lastStatus"], task["desiredStatus"]) == ("PENDING", "RUNNING")
    assert "stopCode" not in task

    def why() -> str:
        text = agent_.cli("why", arn.rpartition("/")[2])
        return text if "next try in" in text else ""

    told = eventually(why, what="the next try is named")
    assert "CannotPullContainerError" in told
    assert f"the pull of {shop.name}" in told

    shop.registry.failures = 0
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    container = only(client, arn)
    assert "reason" not in container
    assert container["imageDigest"] == shop.digest
    task = describe(client, arn)[0]
    assert task["pullStartedAt"] < task["pullStoppedAt"] <= task["startedAt"]


def test_a_stop_during_a_pull_says_nothing_wrong(shared_host: Fleet, shop: Shop) -> None:
    client = shared_host.client()
    shop.hang(on=True)
    (arn,) = run(client, _without_command(client, shop.name))
    eventually(lambda: shop.registry.asked, what="the registry is asked")
    client.stop_task(task=arn, reason="changed my mind")
    client.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig=FAST)
    shop.hang(on=False)
    task = describe(client, arn)[0]
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "changed my mind")
    assert task["pullStartedAt"] <= task["pullStoppedAt"]
    assert "reason" not in task["containers"][0]


def test_an_image_that_was_given_by_digest_shows_it(shared_host: Fleet, shop: Shop) -> None:
    client = shared_host.client()
    pinned = f"{shop.name.rpartition(':')[0]}@{shop.digest}"
    (arn,) = run(client, _without_command(client, pinned))
    client.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig=FAST)
    assert only(client, arn)["imageDigest"] == shop.digest


def _without_command(client: Any, image: str) -> str:
    return register(client, image, "", containers=[{"command": []}])

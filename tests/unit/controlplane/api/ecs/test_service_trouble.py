"""Services in trouble: no storm of starts or writes, and DescribeServices says what is wrong.

The clock is simulated, so the figures of throttling are exact to the step of these tests.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.services.view import ServiceKey
from agent.controlplane.tasks.changes import FAILED_TO_START
from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.services.observed import SeenTask
    from tests.unit.controlplane.api.ecs.service_shop import Shop

STEP_S = 5.0
HOUR_S = 3600.0
NO_IMAGE = "CannotPullContainerError: manifest for img:gone not found"


async def watch(
    shop: Shop, seconds: float, react: Callable[[SeenTask], tuple[str, dict[str, Any]] | None]
) -> list[tuple[float, int]]:
    """Let time pass, with agents that report what ``react`` says; return when how many tasks were created."""
    parts, start = shop.endpoint.parts, shop.endpoint.now[0]
    created: dict[str, float] = {}
    while shop.endpoint.now[0] <= start + seconds:
        await shop.loop.settle()
        await parts.services.read()
        for task in list(parts.services.tasks(ServiceKey("default", "shop"))):
            created.setdefault(task.id, task.created_at - start)
            told = react(task) if task.last_status != "STOPPED" else None
            if told is not None:
                await shop.report(parts.names.task("default", task.id), told[0], **told[1])
        await shop.loop.settle()
        shop.endpoint.now[0] += STEP_S
    return sorted(Counter(created.values()).items())


def obeys(task: SeenTask) -> tuple[str, dict[str, Any]] | None:
    """What the agent of a task reports that starts well."""
    if not task.is_wanted:
        return "STOPPED", {}
    return ("RUNNING", {}) if task.last_status == "PENDING" else None


def fails(task: SeenTask) -> tuple[str, dict[str, Any]] | None:
    """What an agent reports whose image is gone."""
    del task
    return "STOPPED", {"reason": NO_IMAGE, "stop_code": FAILED_TO_START}


def exits(task: SeenTask) -> tuple[str, dict[str, Any]] | None:
    """What an agent reports of a program that ends at once."""
    return ("RUNNING", {}) if task.last_status == "PENDING" else ("STOPPED", {})


def gaps(starts: list[tuple[float, int]]) -> list[float]:
    """Return the seconds between the rounds of starts."""
    times = [at for at, _ in starts]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_an_image_that_vanished_is_tried_ever_more_rarely(shop: Shop) -> None:
    await shop.create(desiredCount=5)
    starts = await watch(shop, 2 * HOUR_S, fails)
    assert gaps(starts) == [10, 20, 40, 80, 160, 320, 640, 1280, 1620, 1620]
    assert {count for _, count in starts} == {5}
    shown = await shop.describe()
    (deployment,) = shown["deployments"]
    assert (deployment["rolloutState"], deployment["failedTasks"]) == ("IN_PROGRESS", 55)
    impaired = [text for text in await shop.messages() if "unable to consistently start" in text]
    assert len(impaired) == 1
    stopped = await shop.tasks("STOPPED")
    assert {(task["stopCode"], task["stoppedReason"]) for task in stopped} == {
        ("TaskFailedToStart", NO_IMAGE)
    }


async def test_a_program_that_ends_at_once_is_started_every_fifty_seconds(shop: Shop) -> None:
    await shop.create(desiredCount=3)
    starts = await watch(shop, 600, exits)
    assert [gap - STEP_S for gap in gaps(starts)] == [10, 20, 40, *[50] * 9]
    assert (await shop.describe())["deployments"][0]["failedTasks"] == 3 * 13
    assert "unable to consistently start" in "".join(await shop.messages())


async def test_a_full_cluster_is_asked_rarely_and_written_to_never(shop: Shop) -> None:
    large = {"name": "main", "image": "img", "cpu": 256, "memory": 5000}
    await shop.endpoint.call(
        "register_task_definition", **definition(family="large", containerDefinitions=[large])
    )
    await shop.create(taskDefinition="large", desiredCount=3)
    assert await watch(shop, 300, obeys) == [(0, 1)]
    revision = shop.endpoint.parts.store.revision
    assert await watch(shop, HOUR_S, obeys) == [(-300 - STEP_S, 1)]
    assert shop.endpoint.parts.store.revision == revision
    assert "has insufficient memory available" in (await shop.messages())[0]
    shown = await shop.describe()
    assert (shown["desiredCount"], shown["runningCount"], shown["pendingCount"]) == (3, 1, 0)


async def test_a_failing_revision_leaves_what_ran_and_says_so(shop: Shop) -> None:
    await shop.create(desiredCount=2)
    await shop.settle(41)
    kept = {task["taskArn"] for task in await shop.tasks()}
    await shop.endpoint.call("register_task_definition", **definition())
    await shop.endpoint.call("update_service", service="shop", taskDefinition="web:2")
    new = (await shop.describe())["deployments"][0]["id"]
    starts = await watch(
        shop, HOUR_S, lambda task: fails(task) if task.started_by == new else obeys(task)
    )
    assert gaps(starts[1:]) == [10, 20, 40, 80, 160, 320, 640, 1280]
    assert {task["taskArn"] for task in await shop.tasks()} == kept
    primary, old = (await shop.describe())["deployments"]
    assert (primary["rolloutState"], primary["failedTasks"], old["runningCount"]) == (
        "IN_PROGRESS",
        18,
        2,
    )


async def test_a_hundred_updates_in_a_row_end_in_one_deployment(shop: Shop) -> None:
    """With the loop in between for some of them, as with a pipeline that goes wild."""
    await shop.create(desiredCount=2)
    await shop.settle(41)
    kept = {task["taskArn"] for task in await shop.tasks()}
    for number in range(100):
        await shop.endpoint.call("update_service", service="shop", forceNewDeployment=True)
        if number == 50:
            await shop.loop.settle()
            there = await shop.tasks()
            assert len(there) <= 4, "200 per cent of 2"
            assert kept <= {task["taskArn"] for task in there}, "none of the new ones is healthy"
    last = (await shop.describe())["deployments"][0]["id"]
    starts = await watch(shop, 120, obeys)
    assert sum(count for _, count in starts) == 2 + 2 + 2, "old, half-way, and of the last update"
    shown = await shop.describe()
    assert [(d["id"], d["rolloutState"]) for d in shown["deployments"]] == [(last, "COMPLETED")]
    assert shown["runningCount"] == 2
    listed = await shop.endpoint.call("list_service_deployments", service="shop", maxResults=100)
    statuses = [one["status"] for one in listed["serviceDeployments"]]
    assert statuses == ["SUCCESSFUL", *["STOPPED"] * 99]


async def test_two_operators_at_once_both_get_what_they_asked_for(shop: Shop) -> None:
    await shop.create(desiredCount=1)
    await shop.settle(41)
    call = shop.endpoint.call
    answers = await asyncio.gather(
        *(call("update_service", service="shop", desiredCount=3) for _ in range(4)),
        *(call("update_service", service="shop", forceNewDeployment=True) for _ in range(4)),
        shop.loop.settle(),
    )
    begun = {answer["service"]["deployments"][0]["id"] for answer in answers if answer}
    await watch(shop, 120, obeys)
    shown = await shop.describe()
    (deployment,) = shown["deployments"]
    assert deployment["id"] in begun
    assert (deployment["rolloutState"], shown["desiredCount"], shown["runningCount"]) == (
        "COMPLETED",
        3,
        3,
    )
    listed = (await call("list_service_deployments", service="shop"))["serviceDeployments"]
    assert Counter(one["status"] for one in listed) == {"SUCCESSFUL": 2, "STOPPED": 3}
    superseded = {one["statusReason"] for one in listed if one["status"] == "STOPPED"}
    assert superseded == {"Service deployment was superseded by a newer one."}


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_definition_that_was_deregistered_serves_until_the_next_update(
    shop: Shop, *, is_deleted: bool
) -> None:
    """One that was deleted too: it is there as long as it is used."""
    await shop.create(desiredCount=1)
    await shop.settle(41)
    call = shop.endpoint.call
    await call("deregister_task_definition", taskDefinition="web:1")
    if is_deleted:
        await call("delete_task_definitions", taskDefinitions=["web:1"])
    await call("update_service", service="shop", desiredCount=2)
    starts = await watch(shop, 120, obeys)
    shown = await shop.describe()
    assert (shown["desiredCount"], shown["runningCount"]) == (2, 2)
    assert sum(count for _, count in starts) == 2
    _, text = await shop.endpoint.refused("update_service", service="shop", taskDefinition="web:1")
    assert "TaskDefinition is inactive" in text

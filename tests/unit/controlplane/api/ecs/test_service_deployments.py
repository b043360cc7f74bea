"""Deployments of services as operators see them: how they went, rolled back, and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.service_shop import Shop


async def test_a_broken_revision_is_rolled_back(shop: Shop) -> None:
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    await shop.create(deploymentConfiguration=breaker)
    await shop.settle(41)
    before = (await shop.describe())["deployments"][0]["id"]
    await shop.endpoint.call("register_task_definition", **definition())
    await shop.endpoint.call("update_service", service="shop", taskDefinition="web:2")
    for _ in range(10):
        await shop.loop.settle()
        shown = await shop.describe()
        if shown["deployments"][0]["id"] == before:
            break
        for task in await shop.tasks():
            if task["taskDefinitionArn"].endswith("web:2"):
                await shop.report(task["taskArn"], "STOPPED")
        shop.endpoint.now[0] += 60
    await shop.settle(41)
    shown = await shop.describe()
    assert [d["id"] for d in shown["deployments"]] == [before]
    assert shown["taskDefinition"].endswith("web:1")
    assert shown["runningCount"] == 2
    messages = await shop.messages()
    assert f"(service shop) rolling back to deployment {before}." in messages


async def test_service_deployments_tell_how_each_update_went(shop: Shop) -> None:
    call = shop.endpoint.call
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    await shop.create(deploymentConfiguration=breaker)
    await shop.settle(41)
    for _ in range(2):
        await call("update_service", service="shop", forceNewDeployment=True)
    await shop.loop.settle()

    async def listed(**filters: Any) -> list[dict[str, Any]]:
        found = await call("list_service_deployments", service="shop", **filters)
        return list(found["serviceDeployments"])

    newest, superseded, first = await listed()
    assert [one["status"] for one in (newest, superseded, first)] == [
        "IN_PROGRESS",
        "STOPPED",
        "SUCCESSFUL",
    ]
    digits = (await shop.describe())["deployments"][0]["id"].rpartition("/")[2]
    assert digits in newest["targetServiceRevisionArn"], "Terraform looks for that"
    arn = newest["serviceDeploymentArn"]
    answer = await call("describe_service_deployments", serviceDeploymentArns=[arn, f"{arn}x"])
    (shown,) = answer["serviceDeployments"]
    assert answer["failures"] == [{"arn": f"{arn}x", "reason": "MISSING"}]
    assert shown["targetServiceRevision"]["pendingTaskCount"] == 2
    assert [one["runningTaskCount"] for one in shown["sourceServiceRevisions"]][-1] == 2
    assert shown["deploymentCircuitBreaker"] == {
        "status": "MONITORING",
        "failureCount": 0,
        "threshold": 3,
    }
    for _ in range(10):
        for task in await shop.tasks():
            if task["startedBy"].endswith(digits):
                await shop.report(task["taskArn"], "STOPPED")
        shop.endpoint.now[0] += 60
        await shop.loop.settle()
        if (await listed())[0]["status"] != "IN_PROGRESS":
            break
    await shop.settle(41)
    newest = (await listed())[0]
    assert newest["status"] == "ROLLBACK_SUCCESSFUL"
    assert newest["statusReason"] == (
        "Service deployment rolled back because the circuit breaker threshold was exceeded."
    )
    (shown,) = (await call("describe_service_deployments", serviceDeploymentArns=[arn]))[
        "serviceDeployments"
    ]
    assert shown["rollback"]["serviceRevisionArn"] == first["targetServiceRevisionArn"]
    assert shown["deploymentCircuitBreaker"]["status"] == "TRIGGERED"
    (revision,) = (
        await call(
            "describe_service_revisions", serviceRevisionArns=[first["targetServiceRevisionArn"]]
        )
    )["serviceRevisions"]
    assert revision["taskDefinition"].endswith("web:1")
    assert revision["containerImages"] == [{"containerName": "main", "image": "img"}]
    assert len(await listed(status=["STOPPED"])) == 1
    assert not await listed(createdAt={"after": shop.endpoint.now[0]})
    page = await call("list_service_deployments", service="shop", maxResults=2)
    rest = await call(
        "list_service_deployments", service="shop", maxResults=2, nextToken=page["nextToken"]
    )
    assert (len(page["serviceDeployments"]), len(rest["serviceDeployments"])) == (2, 1)


async def test_a_deployment_is_stopped_and_rolled_back(shop: Shop) -> None:
    call, refused = shop.endpoint.call, shop.endpoint.refused
    await shop.create()

    async def newest() -> dict[str, Any]:
        found = await call("list_service_deployments", service="shop")
        return dict(found["serviceDeployments"][0])

    arn = (await newest())["serviceDeploymentArn"]
    code, text = await refused("stop_service_deployment", serviceDeploymentArn=arn)
    assert (code, "no earlier deployment" in text) == ("ConflictException", True)
    await shop.settle(41)
    code, text = await refused("stop_service_deployment", serviceDeploymentArn=arn)
    assert (code, "its status is SUCCESSFUL" in text) == ("ConflictException", True)
    before = (await shop.describe())["deployments"][0]["id"]
    await call("update_service", service="shop", forceNewDeployment=True)
    await shop.loop.settle()
    arn = (await newest())["serviceDeploymentArn"]
    code, text = await refused(
        "stop_service_deployment", serviceDeploymentArn=arn, stopType="ABORT"
    )
    assert (code, "use ROLLBACK" in text) == ("InvalidParameterException", True)
    answer = await call("stop_service_deployment", serviceDeploymentArn=arn)
    assert answer["serviceDeploymentArn"] == arn
    assert (await shop.describe())["deployments"][0]["id"] == before
    assert (await newest())["status"] == "ROLLBACK_IN_PROGRESS"
    code, text = await refused("stop_service_deployment", serviceDeploymentArn=arn)
    assert (code, "ROLLBACK_IN_PROGRESS" in text) == ("ConflictException", True)
    await shop.settle(41)
    found = await newest()
    assert (found["status"], found["statusReason"]) == (
        "ROLLBACK_SUCCESSFUL",
        "Service deployment rolled back because an operator stopped it.",
    )
    assert [one["id"] for one in (await shop.describe())["deployments"]] == [before]
    (shown,) = (await call("describe_service_deployments", serviceDeploymentArns=[arn]))[
        "serviceDeployments"
    ]
    assert shown["deploymentCircuitBreaker"] == {"status": "DISABLED"}
    code, _ = await refused("stop_service_deployment", serviceDeploymentArn=f"{arn}x")
    assert code == "ServiceDeploymentNotFoundException"

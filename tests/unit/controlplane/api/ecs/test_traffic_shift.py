"""Deployments that shift traffic between two target groups, by the rules of their listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.controlplane.api.ecs.alarm_figures import WATCHED, AlarmFigures
from tests.unit.controlplane.api.ecs.test_service_balancers import BalancedShop

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

BLUE_GREEN = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 10}
CANARY = {
    "strategy": "CANARY",
    "canaryConfiguration": {"canaryPercent": 2.5, "canaryBakeTimeInMinutes": 5},
}
LINEAR = {
    "strategy": "LINEAR",
    "linearConfiguration": {"stepPercent": 40, "stepBakeTimeInMinutes": 5},
}
PAUSE = {"targetType": "PAUSE", "lifecycleStages": ["PRE_PRODUCTION_TRAFFIC_SHIFT"]}


class ShiftedShop(BalancedShop):
    """A shop with two target groups, a production rule and a test listener."""

    other = production = test = test_listener = ""

    async def build(self, *, hosts: int = 3, listens: bool = True) -> ShiftedShop:
        await super().build(hosts=hosts, listens=listens)
        made = await self.elb(
            "CreateTargetGroup", Name="other", Protocol="HTTP", Port=80, TargetType="ip"
        )
        self.other = made["TargetGroups"][0]["TargetGroupArn"]
        for group in (self.group, self.other):
            delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "0"}
            await self.elb("ModifyTargetGroupAttributes", TargetGroupArn=group, Attributes=[delay])
        balancers = await self.elb("DescribeLoadBalancers")
        balancer = balancers["LoadBalancers"][0]["LoadBalancerArn"]
        made = await self.elb(
            "CreateListener",
            LoadBalancerArn=balancer,
            Protocol="HTTP",
            Port=8080,
            DefaultActions=[self.forward(1, 0)],
        )
        self.test_listener = made["Listeners"][0]["ListenerArn"]
        rules = await self.elb("DescribeRules", ListenerArn=self.test_listener)
        self.test = rules["Rules"][0]["RuleArn"]
        listeners = await self.elb("DescribeListeners", LoadBalancerArn=balancer)
        main = next(each for each in listeners["Listeners"] if each["Port"] == 80)
        made = await self.elb(
            "CreateRule",
            ListenerArn=main["ListenerArn"],
            Priority=1,
            Conditions=[{"Field": "path-pattern", "Values": ["/shop"]}],
            Actions=[self.forward(100, 0)],
        )
        self.production = made["Rules"][0]["RuleArn"]
        return self

    def forward(self, first: int, second: int) -> dict[str, Any]:
        groups = [
            {"TargetGroupArn": self.group, "Weight": first},
            {"TargetGroupArn": self.other, "Weight": second},
        ]
        return {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}

    @property
    def balancers(self) -> list[dict[str, Any]]:
        advanced = {
            "alternateTargetGroupArn": self.other,
            "productionListenerRule": self.production,
            "testListenerRule": self.test,
            "roleArn": "arn:aws:iam::000000000000:role/shift",
        }
        return [super().balancers[0] | {"advancedConfiguration": advanced}]

    async def begin(self, **more: Any) -> None:
        """Have one task of the first deployment serve, and begin the next one."""
        await self.open(desiredCount=1, **more)
        await self.settle(41)
        await self.settle(601)
        assert await self.weights() == (100, 0)
        assert (await self.newest())["status"] == "SUCCESSFUL"
        await self.update()
        await self.loop.settle()

    async def update(self, **more: Any) -> None:
        await self.endpoint.call("update_service", service="shop", forceNewDeployment=True, **more)

    async def weights(self, rule: str = "") -> tuple[int, int]:
        """Return the weights of both groups in a rule."""
        found = await self.elb("DescribeRules", RuleArns=[rule or self.production])
        config = found["Rules"][0]["Actions"][0]["ForwardConfig"]["TargetGroups"]
        weights = {each["TargetGroupArn"]: each["Weight"] for each in config}
        return weights.get(self.group, 0), weights.get(self.other, 0)

    async def targets(self) -> tuple[int, int]:
        """Return how many targets each of the groups has."""
        found = [
            (await self.elb("DescribeTargetHealth", TargetGroupArn=group))[
                "TargetHealthDescriptions"
            ]
            for group in (self.group, self.other)
        ]
        return len(found[0]), len(found[1])

    async def newest(self) -> dict[str, Any]:
        call = self.endpoint.call
        listed = await call("list_service_deployments", service="shop")
        arn = listed["serviceDeployments"][0]["serviceDeploymentArn"]
        found = await call("describe_service_deployments", serviceDeploymentArns=[arn])
        return dict(found["serviceDeployments"][0])

    async def stop(self) -> None:
        arn = (await self.newest())["serviceDeploymentArn"]
        await self.endpoint.call("stop_service_deployment", serviceDeploymentArn=arn)


@pytest.fixture
async def shop(endpoint: Endpoint) -> ShiftedShop:
    return await ShiftedShop(endpoint).build()


async def test_all_traffic_is_shifted_at_once_and_next_time_back(shop: ShiftedShop) -> None:
    await shop.begin(deploymentConfiguration=BLUE_GREEN)
    await shop.settle(39)
    assert (await shop.newest())["lifecycleStage"] == "SCALE_UP"
    assert (await shop.targets(), await shop.weights()) == ((1, 1), (100, 0))
    await shop.settle(2)
    shown = await shop.newest()
    assert shown["lifecycleStage"] == "BAKE_TIME"
    assert shown["targetServiceRevision"]["requestedProductionTrafficWeight"] == 100.0
    assert shown["sourceServiceRevisions"][0]["requestedProductionTrafficWeight"] == 0.0
    assert (await shop.weights(), await shop.weights(shop.test)) == ((0, 100), (0, 100))
    assert await shop.targets() == (1, 1), "the old task stays while the new one bakes"
    assert any(
        f"(rule {shop.production}) forwards 100 per cent to (target-group {shop.other})" in message
        for message in await shop.messages()
    )
    revision = await shop.endpoint.call(
        "describe_service_revisions", serviceRevisionArns=[shown["targetServiceRevision"]["arn"]]
    )
    assert revision["serviceRevisions"][0]["resolvedConfiguration"]["loadBalancers"] == [
        {"targetGroupArn": shop.other, "productionListenerRule": shop.production}
    ]
    await shop.settle(601)
    assert (await shop.newest())["status"] == "SUCCESSFUL"
    assert (await shop.targets(), await shop.weights()) == ((0, 1), (0, 100))

    await shop.update()
    await shop.settle(41)
    await shop.settle(601)
    assert (await shop.targets(), await shop.weights()) == ((1, 0), (100, 0))


async def test_a_deployment_that_is_stopped_while_it_bakes_gives_traffic_back_first(
    shop: ShiftedShop,
) -> None:
    await shop.begin(deploymentConfiguration=BLUE_GREEN)
    await shop.settle(41)
    assert await shop.weights() == (0, 100)
    await shop.stop()
    await shop.loop.settle()
    assert (await shop.weights(), await shop.weights(shop.test)) == ((100, 0), (100, 0))
    await shop.settle(41)
    assert (await shop.newest())["status"] == "ROLLBACK_SUCCESSFUL"
    assert await shop.targets() == (1, 0)


async def test_an_alarm_while_a_deployment_bakes_gives_traffic_back_first(
    shop: ShiftedShop,
) -> None:
    figures = await AlarmFigures.open(shop.endpoint)
    await figures.put_alarm()
    await shop.begin(deploymentConfiguration=BLUE_GREEN)
    await shop.update(deploymentConfiguration={**BLUE_GREEN, "alarms": WATCHED})
    await shop.settle()
    await shop.settle(41)
    assert await shop.weights() == (0, 100)
    for _ in range(2):
        await figures.pass_minute(90.0, tasks=1)
    await shop.loop.settle()
    assert (await shop.weights(), await shop.weights(shop.test)) == ((100, 0), (100, 0))
    assert (await shop.newest())["alarms"]["status"] == "TRIGGERED"
    await shop.settle(41)
    assert (await shop.newest())["status"] == "ROLLBACK_SUCCESSFUL"
    assert await shop.targets() == (1, 0)
    await figures.close()


async def test_an_update_while_another_one_bakes_begins_with_all_traffic_at_the_old_task(
    shop: ShiftedShop,
) -> None:
    await shop.begin(deploymentConfiguration=BLUE_GREEN)
    await shop.settle(41)
    assert await shop.weights() == (0, 100)
    await shop.update()
    await shop.settle()
    assert (await shop.weights(), await shop.targets()) == ((100, 0), (1, 1))
    await shop.settle(41)
    assert await shop.weights() == (0, 100)
    await shop.settle(601)
    assert ((await shop.newest())["status"], await shop.targets()) == ("SUCCESSFUL", (0, 1))


async def test_a_rolling_deployment_stays_where_the_traffic_is(shop: ShiftedShop) -> None:
    await shop.begin(deploymentConfiguration=BLUE_GREEN)
    await shop.settle(41)
    await shop.update(deploymentConfiguration={"strategy": "ROLLING"})
    await shop.settle(41)
    assert (await shop.weights(), await shop.targets()) == ((100, 0), (1, 0))
    assert (await shop.newest())["status"] == "SUCCESSFUL"


@pytest.mark.parametrize(
    ("configuration", "steps"),
    [(CANARY, [(975, 25), (0, 100)]), (LINEAR, [(60, 40), (20, 80), (0, 100)])],
    ids=["CANARY", "LINEAR"],
)
async def test_traffic_is_shifted_step_by_step(
    shop: ShiftedShop, configuration: dict[str, Any], steps: list[tuple[int, int]]
) -> None:
    await shop.begin(deploymentConfiguration={**configuration, "bakeTimeInMinutes": 1})
    await shop.settle(41)
    for weights in steps[:-1]:
        await shop.settle()
        assert await shop.weights() == weights
        shown = await shop.newest()
        assert shown["lifecycleStage"] == "PRODUCTION_TRAFFIC_SHIFT"
        wanted = 100 * weights[1] / sum(weights)
        assert shown["targetServiceRevision"]["requestedProductionTrafficWeight"] == wanted
        await shop.settle(299)
        assert await shop.weights() == weights
        shop.endpoint.now[0] += 2
        await shop.loop.settle()
    assert await shop.weights() == steps[-1]
    assert (await shop.newest())["lifecycleStage"] == "BAKE_TIME"
    await shop.settle(61)
    assert ((await shop.newest())["status"], await shop.targets()) == ("SUCCESSFUL", (0, 1))


async def test_each_step_has_its_own_pause(shop: ShiftedShop) -> None:
    await shop.open(desiredCount=1, deploymentConfiguration=CANARY)
    await shop.settle(41)
    await shop.update(deploymentConfiguration={**CANARY, "lifecycleHooks": [PAUSE]})
    await shop.settle()
    await shop.settle(41)
    seen = []
    for weights in ((100, 0), (975, 25)):
        shown = await shop.newest()
        hook = shown["lifecycleHookDetails"][-1]
        assert (hook["status"], await shop.weights()) == ("AWAITING_ACTION", weights)
        seen.append(hook["hookId"])
        await shop.endpoint.call(
            "continue_service_deployment",
            serviceDeploymentArn=shown["serviceDeploymentArn"],
            hookId=hook["hookId"],
        )
        await shop.settle(301)
    assert len(set(seen)) == 2
    assert (await shop.newest())["status"] == "SUCCESSFUL"


async def test_what_cannot_forward_is_told_and_waited_for(shop: ShiftedShop) -> None:
    await shop.begin(deploymentConfiguration=BLUE_GREEN)
    page = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    await shop.elb("ModifyRule", RuleArn=shop.production, Actions=[page])
    await shop.settle(41)
    await shop.settle(601)
    assert (await shop.newest())["lifecycleStage"] == "PRODUCTION_TRAFFIC_SHIFT"
    (told,) = [each for each in await shop.messages() if "unable to shift traffic" in each]
    reason = f"(rule {shop.production}) does not forward to target groups"
    assert told == f"(service shop) was unable to shift traffic. Reason: {reason}"
    await shop.elb("ModifyRule", RuleArn=shop.production, Actions=[shop.forward(1, 0)])
    await shop.loop.settle()
    assert await shop.weights() == (0, 100)
    await shop.settle(601)
    assert (await shop.newest())["status"] == "SUCCESSFUL"


async def test_both_groups_are_kept_for_the_service(shop: ShiftedShop) -> None:
    await shop.begin(deploymentConfiguration=BLUE_GREEN)
    await shop.elb("DeleteRule", RuleArn=shop.production)
    await shop.elb("DeleteListener", ListenerArn=shop.test_listener)
    with pytest.raises(Exception, match="in use by service shop"):
        await shop.elb("DeleteTargetGroup", TargetGroupArn=shop.other)


async def test_what_cannot_be_shifted_is_refused(shop: ShiftedShop) -> None:
    (base,) = shop.balancers
    advanced = base["advancedConfiguration"]
    plain = {name: value for name, value in base.items() if name != "advancedConfiguration"}

    async def refused(configuration: dict[str, Any], *balancers: dict[str, Any]) -> str:
        code, told = await shop.endpoint.refused(
            "create_service",
            serviceName="s",
            taskDefinition="web",
            desiredCount=1,
            loadBalancers=list(balancers),
            deploymentConfiguration=configuration,
        )
        assert code == "InvalidParameterException", told
        return told

    assert "needs loadBalancers with" in await refused(CANARY)
    assert "advancedConfiguration field is required" in await refused(LINEAR, plain)
    for change, text in (
        ({"alternateTargetGroupArn": shop.group}, "Duplicate targetGroupArn"),
        ({"alternateTargetGroupArn": ""}, "alternateTargetGroupArn of advancedConfiguration"),
        ({"productionListenerRule": f"{shop.production}0"}, "does not exist"),
        ({"testListenerRule": shop.production}, "must be different"),
    ):
        told = await refused(BLUE_GREEN, base | {"advancedConfiguration": advanced | change})
        assert text in told
    await shop.elb("ModifyRule", RuleArn=shop.production, Actions=[shop.forward(1, 1)])
    told = await refused(BLUE_GREEN, base)
    assert "should have exactly one target group serving traffic but found 2" in told
    for configuration, text in (
        ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 2.9}}, "stepPercent"),
        ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 3.05}}, "steps of 0.1"),
        ({"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0}}, "canaryPercent"),
        (
            {"strategy": "CANARY", "canaryConfiguration": {"canaryBakeTimeInMinutes": 1441}},
            "canaryBakeTimeInMinutes",
        ),
        ({**BLUE_GREEN, "canaryConfiguration": {"canaryPercent": 5}}, "CANARY"),
    ):
        assert text in await refused(configuration, base)
